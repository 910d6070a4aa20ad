/* cuDNN is the real one. It is told about the card by a descriptor of device properties (cuDNN 9.8 and later), where a
 * handle on a real device would stand, so that its heuristics and the workspaces of its plans are those of that card.
 * Nothing is executed.
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
static const int takes_device[] = {204, 407, 1307}; /* heuristics, plans, engines */

typedef int set_attribute(void *, int, int, int64_t, const void *);
static set_attribute *set;
static int (*create)(int, void **), (*finalize)(void *);
static void *library, *properties;

/* The library as PyTorch loaded it, told about the card once. */
static void begin(void) {
    if (properties) return;
    library = dlopen("libcudnn.so.9", RTLD_NOW);
    set = library ? (set_attribute *)dlsym(library, "cudnnBackendSetAttribute") : NULL;
    create = library ? (int (*)(int, void **))dlsym(library, "cudnnBackendCreateDescriptor") : NULL;
    finalize = library ? (int (*)(void *))dlsym(library, "cudnnBackendFinalize") : NULL;
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
    return type == TYPE_HANDLE ? 0 : set(descriptor, name, type, count, values);
}

/* A descriptor of another kind refuses the attribute, and is none the worse for it. */
int cudnnBackendFinalize(void *descriptor) {
    begin();
    for (size_t i = 0; i < sizeof takes_device / sizeof *takes_device; i++)
        if (!set(descriptor, takes_device[i], TYPE_DESCRIPTOR, 1, &properties)) break;
    return finalize(descriptor);
}

int cudnnBackendExecute(void *handle, void *plan, void *variants) { content_is_computed(); return 0; }

/* The handle is not cuDNN's, but what it asks a device about stands in it. Where, was found by changing one field after the
 * other: cuDNN's own log names some, sizes answer to the others. From 9.26 on there is one figure more among them. */
static const size_t known[] = {919, 920, 924, 926}; /* versions whose handles have been looked into */

static size_t version(void) {
    begin();
    return ((size_t (*)(void))dlsym(library, "cudnnGetVersion"))() / 100;
}

static int knows_handle(void) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (version() == known[i]) return 1;
    return 0;
}

int cudnnCreate(void **handle) {
    char *made = calloc(1, 65536);
    if (!made) return 1;
    size_t later = version() < 926 ? 0 : 4;
    if (!knows_handle()) note_lower_bound("cudnnGetBatchNormalizationWorkspaceSize");
    *(int *)(made + 0x1c) = card.multiprocessors;
    *(int *)(made + 0x28) = card.shared_bytes_per_block_optin;
    *(int *)(made + 0x3c + later) = card.threads_per_multiprocessor;
    *(int *)(made + 0x48 + later) = 1; /* there is a device */
    *(int *)(made + 0x68) = 100 * card.major + 10 * card.minor;
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
