/* cuDNN is the real one. It is told about the card by a descriptor of device properties (cuDNN 9.8 and later), where a
 * handle on a real device would stand, so that its heuristics and the workspaces of its plans are those of that card.
 * cuDNN 8.9 has no such descriptor, and reads these figures in the handle. Nothing is executed.
 *
 * Only what needs a device is answered here; descriptors and all else go to the library itself. The numbers are the
 * enumerations of its header cudnn_graph.h.
 */
#include "card.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICE_PROPERTIES = 38, DEVICE_JSON = 2702, TYPE_HANDLE = 0, TYPE_DESCRIPTOR = 15, TYPE_CHAR = 24 };
enum { TOLD_BY_HANDLE = 89 }; /* a hundredth of cudnnGetVersion */
static const int takes_device[] = {204, 407, 1307}; /* heuristics, plans, engines */

typedef int set_attribute(void *, int, int, int64_t, const void *);
static set_attribute *set;
static int (*create)(int, void **), (*finalize)(void *);
static void *library, *properties; /* no properties where the handle tells */

static size_t version(void) { return ((size_t (*)(void))dlsym(library, "cudnnGetVersion"))() / 100; }

/* The library as PyTorch loaded it, told about the card once. */
static void begin(void) {
    if (library) return;
    library = dlopen("libcudnn.so.9", RTLD_NOW);
    if (!library) library = dlopen("libcudnn.so.8", RTLD_NOW);
    set = library ? (set_attribute *)dlsym(library, "cudnnBackendSetAttribute") : NULL;
    create = library ? (int (*)(int, void **))dlsym(library, "cudnnBackendCreateDescriptor") : NULL;
    finalize = library ? (int (*)(void *))dlsym(library, "cudnnBackendFinalize") : NULL;
    if (set && create && finalize && version() == TOLD_BY_HANDLE) return;
    void *made = NULL;
    if (!set || !create || !finalize || create(DEVICE_PROPERTIES, &made)
        || set(made, DEVICE_JSON, TYPE_CHAR, strlen(card.cudnn_json), card.cudnn_json) || finalize(made)) {
        fprintf(stderr, "virtual card: cuDNN cannot be told about the card\n");
        abort();
    }
    properties = made;
}

int cudnnBackendSetAttribute(void *descriptor, int name, int type, int64_t count, const void *values) {
    begin();
    return type == TYPE_HANDLE && properties ? 0 : set(descriptor, name, type, count, values);
}

/* A descriptor of another kind refuses the attribute, and is none the worse for it. */
int cudnnBackendFinalize(void *descriptor) {
    begin();
    for (size_t i = 0; properties && i < sizeof takes_device / sizeof *takes_device; i++)
        if (!set(descriptor, takes_device[i], TYPE_DESCRIPTOR, 1, &properties)) break;
    return finalize(descriptor);
}

int cudnnBackendExecute(void *handle, void *plan, void *variants) { content_is_computed(); return 0; }

/* The handle is not cuDNN's, but what it asks a device about stands in it. Where, was found by changing one field after the
 * other: cuDNN's own log names some, sizes answer to the others. 0: nothing was found to answer to it. */
static const struct handle { size_t version, shared_bytes, threads, has_device, compute_capability; } handles[] = {
    {TOLD_BY_HANDLE, 0, 0, 0, 0x64},
    {919, 0x28, 0x3c, 0x48, 0x68},
    {920, 0x28, 0x3c, 0x48, 0x68},
    {924, 0x28, 0x3c, 0x48, 0x68},
    {926, 0x28, 0x40, 0x4c, 0x68},
};
enum { GRID = 0, BLOCK = 0xc, MULTIPROCESSORS = 0x1c }; /* in all of them */

/* Of the latest version that has been looked into and is not later than the library's. */
static const struct handle *nearest(void) {
    begin();
    size_t i = sizeof handles / sizeof *handles - 1;
    while (i && handles[i].version > version()) i--;
    return handles + i;
}

static int knows_handle(void) { return nearest()->version == version(); }

static void put(char *handle, size_t place, int value) { if (place) *(int *)(handle + place) = value; }

int cudnnCreate(void **handle) {
    const struct handle *places = nearest();
    char *made = calloc(1, 65536);
    if (!made) return 1;
    if (!knows_handle()) note_lower_bound("cudnnGetBatchNormalizationWorkspaceSize");
    if (!properties) {
        if (card.major != 7) note_lower_bound("cudnnBackendFinalize"); /* answers of Turing alone were held against a card */
        memcpy(made + GRID, largest_grid, sizeof largest_grid);
        memcpy(made + BLOCK, largest_block, sizeof largest_block);
    }
    put(made, MULTIPROCESSORS, card.multiprocessors);
    put(made, places->shared_bytes, card.shared_bytes_per_block_optin);
    put(made, places->threads, card.threads_per_multiprocessor);
    put(made, places->has_device, 1);
    put(made, places->compute_capability, 100 * card.major + 10 * card.minor);
    *handle = made;
    return 0;
}

int cudnnDestroy(void *handle) { return 0; }
int cudnnSetStream(void *handle, void *stream) { return 0; }
int cudnnGetStream(void *handle, void **stream) { *stream = NULL; return 0; }

/* It answers from the handle, and asks at the end which device is the current one: this fails, and changes no size. The
 * library's own cudnnRNNForward takes these sizes, and refuses both if they are a byte less. */
int cudnnGetRNNTempSpaceSizes(void *handle, void *network, int mode, void *input, size_t *workspace, size_t *reserve) {
    enum { NO_RUNTIME = 5003 };
    if (!knows_handle()) return refuse("cudnnGetRNNTempSpaceSizes", 3000);
    int (*function)(void *, void *, int, void *, size_t *, size_t *) = dlsym(library, "cudnnGetRNNTempSpaceSizes");
    size_t kept = *workspace = SIZE_MAX;
    int status = function(handle, network, mode, input, workspace, &kept);
    if ((status && status != NO_RUNTIME) || *workspace == SIZE_MAX || kept == SIZE_MAX)
        return refuse("cudnnGetRNNTempSpaceSizes", status ? status : 3000);
    if (reserve) *reserve = kept;
    return 0;
}

/* Dropout's random states are written by the device. Restoring, and setting without states, only fill in the descriptor. */
int cudnnSetDropoutDescriptor(void *descriptor, void *handle, float rate, void *states, size_t bytes,
                              unsigned long long seed) {
    begin();
    int (*function)(void *, void *, float, void *, size_t, unsigned long long) =
        dlsym(library, states ? "cudnnRestoreDropoutDescriptor" : "cudnnSetDropoutDescriptor");
    return function(descriptor, handle, rate, states, bytes, seed);
}

int cudnnDropoutGetStatesSize(void *handle, size_t *bytes) {
    if (!knows_handle()) return refuse("cudnnDropoutGetStatesSize", 3000);
    return ((int (*)(void *, size_t *))dlsym(library, "cudnnDropoutGetStatesSize"))(handle, bytes);
}
