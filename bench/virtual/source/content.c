/* What the host sent to the device last: it is known there, and wherever it is copied, until anything computes.
 *
 * That is as far as content is known without computing. PyTorch's distributed training compares the shapes of ranks so.
 */
#include "card.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, PLACES = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { const void *place[PLACES]; int places; size_t bytes; char content[MOST_BYTES]; } sent;

static int is_at(const void *place, size_t bytes) {
    for (int i = 0; i < sent.places; i++)
        if (sent.place[i] == place) return sent.bytes == bytes;
    return 0;
}

void content_is_sent(const void *to, const void *from, size_t bytes) {
    pthread_mutex_lock(&lock);
    sent.places = 0;
    if (bytes && bytes <= MOST_BYTES) {
        memcpy(sent.content, from, sent.bytes = bytes);
        sent.place[sent.places++] = to;
    }
    pthread_mutex_unlock(&lock);
}

void content_is_copied(const void *to, const void *from, size_t bytes) {
    pthread_mutex_lock(&lock);
    if (to != from) {
        if (!is_at(from, bytes) || sent.places == PLACES) sent.places = 0;
        else sent.place[sent.places++] = to;
    }
    pthread_mutex_unlock(&lock);
}

void content_is_computed(void) {
    pthread_mutex_lock(&lock);
    sent.places = 0;
    pthread_mutex_unlock(&lock);
}

int content_at(const void *from, void *to, size_t bytes) {
    pthread_mutex_lock(&lock);
    int is_known = is_at(from, bytes);
    if (is_known) memcpy(to, sent.content, bytes);
    pthread_mutex_unlock(&lock);
    return is_known;
}
