/* A TCG plugin: executed blocks per layer function, exact. Prototypes are declared here because distributions ship
 * qemu without qemu-plugin.h (API version 1, since qemu 6.0).
 *
 * -plugin counter.so,out=FILE,start=ADDR,stop=ADDR,runs=N,layer=ADDR,layer=ADDR,...
 * Counting goes on between the blocks at `start` and `stop`, for the first N such stretches. Each line of FILE:
 * layer index (-1 before the first), block address, size, times executed, times left by a jump. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t {
    const char *target_name; /* and more, not needed here */
};
typedef void (*tb_trans_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*exec_cb)(unsigned, void *);
typedef void (*exit_cb)(qemu_plugin_id_t, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_trans_cb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, exec_cb, int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, exit_cb, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

#define MAX_LAYERS 1024

typedef struct block {
    uint64_t address;
    uint32_t size;
    int layer; /* index of the layer that starts here, or -1 */
    uint64_t *times, *jumps;
    struct block *next;
} block;

static uint64_t layers[MAX_LAYERS], start_at, stop_at, follows;
static int layer_count, current = -1, active, runs = 1, thumb;
static block *blocks, *last;
static char out_path[4096];

static void executed(unsigned cpu, void *data) {
    block *b = data;
    (void)cpu;
    if (b->address == start_at && runs > 0) {
        active = 1;
        current = -1;
        last = NULL;
    }
    if (!active) return;
    if (b->address == stop_at) {
        active = 0;
        runs--;
        return;
    }
    if (last && b->address != follows) last->jumps[current + 1]++;
    if (b->layer >= 0) current = b->layer;
    b->times[current + 1]++;
    last = b;
    follows = b->address + b->size;
}

/* At the end of a page qemu looks at the next half-word and counts it as part of the instruction before, so sizes cannot
 * be added up: the last instruction's own encoding tells where a block of Thumb code ends. */
static uint32_t size_of(struct qemu_plugin_tb *tb) {
    struct qemu_plugin_insn *end = qemu_plugin_tb_get_insn(tb, qemu_plugin_tb_n_insns(tb) - 1);
    uint32_t size = (uint32_t)qemu_plugin_insn_size(end);
    uint16_t half;
    memcpy(&half, qemu_plugin_insn_data(end), sizeof half);
    if (thumb) size = half >> 11 >= 0x1d ? 4 : 2;
    return (uint32_t)(qemu_plugin_insn_vaddr(end) - qemu_plugin_tb_vaddr(tb)) + size;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    block *b = calloc(1, sizeof *b);
    (void)id;
    b->address = qemu_plugin_tb_vaddr(tb);
    b->size = size_of(tb);
    b->layer = -1;
    for (int i = 0; i < layer_count; i++)
        if (layers[i] == b->address) b->layer = i;
    b->times = calloc((size_t)layer_count + 1, sizeof *b->times);
    b->jumps = calloc((size_t)layer_count + 1, sizeof *b->jumps);
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);
}

static void finished(qemu_plugin_id_t id, void *data) {
    FILE *file = fopen(out_path, "w");
    (void)id;
    (void)data;
    if (!file) return;
    for (block *b = blocks; b; b = b->next)
        for (int i = 0; i <= layer_count; i++)
            if (b->times[i])
                fprintf(file, "%d %" PRIu64 " %u %" PRIu64 " %" PRIu64 "\n", i - 1, b->address, b->size, b->times[i], b->jumps[i]);
    fclose(file);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv) {
    thumb = !strcmp(info->target_name, "arm");
    for (int i = 0; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) return -1;
        *value++ = 0;
        if (!strcmp(argv[i], "out")) snprintf(out_path, sizeof out_path, "%s", value);
        else if (!strcmp(argv[i], "start")) start_at = strtoull(value, NULL, 0);
        else if (!strcmp(argv[i], "stop")) stop_at = strtoull(value, NULL, 0);
        else if (!strcmp(argv[i], "runs")) runs = atoi(value);
        else if (!strcmp(argv[i], "layer") && layer_count < MAX_LAYERS) layers[layer_count++] = strtoull(value, NULL, 0);
        else return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
