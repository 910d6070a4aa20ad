/* The card's figures, and what a run leaves to tell: bench/virtual/library.py calls these functions. */
#include "card.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct card card;

static char *unknown; /* a page of the caller's, which outlives this process */
static size_t unknown_room;
static char lower[4096], upper[4096];

int virtual_card_set(const char *figure, int64_t value) {
#define SET(name) if (!strcmp(figure, #name)) { card.name = value; return 0; }
    FIGURES(SET)
#undef SET
    return 1;
}

int virtual_card_describe(const char *name, const char *cudnn_json) {
    if (strlen(name) >= sizeof card.name || strlen(cudnn_json) >= sizeof card.cudnn_json) return 1;
    strcpy(card.name, name);
    strcpy(card.cudnn_json, cudnn_json);
    return 0;
}

void virtual_card_report_to(char *room, size_t bytes) { unknown = room; unknown_room = bytes; }
const char *virtual_card_lower_bounds(void) { return lower; }
const char *virtual_card_upper_bounds(void) { return upper; }

/* The caller raises an error of its own, which seldom has the name. The first one tells most. */
int refuse(const char *function, int status) {
    if (unknown && !*unknown) strncpy(unknown, function, unknown_room - 1);
    return status;
}

static void note(char bounds[4096], const char *function) {
    size_t used = strlen(bounds);
    if (!strstr(bounds, function) && used + strlen(function) + 2 < 4096)
        sprintf(bounds + used, "%s%s", used ? " " : "", function);
}

void note_lower_bound(const char *function) { note(lower, function); }
void note_upper_bound(const char *function) { note(upper, function); }

void *new_handle(void) {
    void *handle = calloc(1, 256); /* room for those who look into it; never freed, so never the same twice */
    if (!handle) abort();
    return handle;
}
