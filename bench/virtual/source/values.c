/* What is copied from the device to the host: what the caller told of it, in order, or else what the host sent
 * there, or else zeros, which are counted.
 *
 * Where the step reads something of another size than was told, it does something else than the caller knows of: from
 * there on nothing is told any more.
 */
#include "card.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct told { struct told *next; size_t bytes; int is_known; char content[]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct told *first, **last = &first;
static int64_t values_read, strays;

int64_t virtual_card_values_read(void) { return values_read; }
int64_t virtual_card_strays(void) { return strays; }

void virtual_card_tell(const void *content, size_t bytes) {
    struct told *told = calloc(1, sizeof *told + bytes);
    if (!told) abort();
    told->bytes = bytes;
    told->is_known = content != NULL;
    if (content) memcpy(told->content, content, bytes);
    *last = told;
    last = &told->next;
}

void read_from_device(void *to, const void *from, size_t bytes) {
    if (!bytes) return;
    pthread_mutex_lock(&lock);
    struct told *told = first && first->bytes == bytes ? first : NULL;
    if (told && told->is_known) memcpy(to, told->content, bytes);
    else if (!content_at(from, to, bytes)) {
        memset(to, 0, bytes);
        values_read++;
    }
    strays += !told;
    first = told ? told->next : NULL;
    pthread_mutex_unlock(&lock);
}
