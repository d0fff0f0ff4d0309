/* A small libnvidia-ml.so.1: two GPUs with known values, made to fail or hang function by function.
 *
 * fake_fail(function, gpu, code): every later call answers code (0: works again); gpu -1: all.
 * fake_hang(function, gpu, on):   calls do not come back while on. FAKE_NVML_HANG=function: from the start.
 * fake_blank(function, on):      its answers are NVML_VALUE_NOT_AVAILABLE, bit by bit. fake_minor(gpu, minor).
 * fake_split(gpu, on):            MIG with two GPU instances, one of them with two compute instances.
 * GPU 0 has GPM, two NVLinks (the second is down), a fan and a fabric; GPU 1 has none of them.
 * fake_xid(gpu, xid):             the next event. fake_gpus(n): how many there are.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, INVALID = 2 };
typedef unsigned int uint;
typedef unsigned long long ull;

static struct { const char *function; int gpu; int code; int hang; } rules[64];
static struct { const char *function; int on; } blanks[64];
static int blank_count;
static int rule_count, gpus = 2;
static uint minors[8] = {0, 1, 2, 3, 4, 5, 6, 7};
static int devices[8] = {0, 1, 2, 3, 4, 5, 6, 7};
static int parts[8] = {100, 101, 102, 103, 104, 105, 106, 107}; /* MIG devices of GPU 0 */
static int split[8];
static struct { int gpu; ull xid; } events[64];
static int event_sets; /* created so far */
static int event_tail; /* each event set has read up to an index of its own */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int rule_index(const char *function, int gpu) {
    for (int i = 0; i < rule_count; i++)
        if (!strcmp(rules[i].function, function) && (rules[i].gpu == gpu)) return i;
    return -1;
}
static int rule_for(const char *function, int gpu) {
    int i = rule_index(function, gpu);
    rules[i < 0 ? rule_count : i].function = i < 0 ? strdup(function) : rules[i].function;
    if (i >= 0) return i;
    rules[rule_count].gpu = gpu;
    return rule_count++;
}
void fake_fail(const char *function, int gpu, int code) { rules[rule_for(function, gpu)].code = code; }
void fake_hang(const char *function, int gpu, int on) { rules[rule_for(function, gpu)].hang = on; }
void fake_blank(const char *function, int on) {
    for (int i = 0; i < blank_count; i++)
        if (!strcmp(blanks[i].function, function)) { blanks[i].on = on; return; }
    blanks[blank_count].function = strdup(function);
    blanks[blank_count++].on = on;
}
static int is_blank(const char *function) {
    for (int i = 0; i < blank_count; i++)
        if (!strcmp(blanks[i].function, function)) return blanks[i].on;
    return 0;
}
void fake_minor(int gpu, uint minor) { minors[gpu] = minor; }
void fake_split(int gpu, int on) { split[gpu] = on; }
void fake_gpus(int count) { gpus = count; }
int fake_event_sets(void) { return event_sets; }
void fake_xid(int gpu, ull xid) {
    pthread_mutex_lock(&lock);
    events[event_tail % 64].gpu = gpu;
    events[event_tail++ % 64].xid = xid;
    pthread_mutex_unlock(&lock);
}

static int check(const char *function, void *device) {
    int gpu = device ? *(int *)device : -1;
    const char *hung = getenv("FAKE_NVML_HANG");
    while (hung && !strcmp(hung, function)) usleep(10000);
    for (int pass = 0; pass < 2; pass++) {
        int i = rule_index(function, pass ? gpu : -1);
        if (i < 0) continue;
        while (rules[i].hang) usleep(10000);
        if (rules[i].code) return rules[i].code;
    }
    return SUCCESS;
}
#define ENTER(device) do { int bad = check(__func__, device); if (bad) return bad; } while (0)
#define LEAVE(out, size) do { if (is_blank(__func__)) memset(out, 0xff, size); return SUCCESS; } while (0)
#define GPU (*(int *)device)
#define ONE(name, type, value) \
    int name(void *device, type *out) { ENTER(device); *out = (value); LEAVE(out, sizeof *out); }

int nvmlInitWithFlags(uint flags) { (void)flags; ENTER(NULL); return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char *out, uint size) { strncpy(out, "590.48.01", size); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = 13010; return SUCCESS; }
int nvmlDeviceGetCount_v2(uint *out) { ENTER(NULL); *out = gpus; LEAVE(out, sizeof *out); }
int nvmlDeviceGetHandleByIndex_v2(uint index, void **out) {
    int bad = check(__func__, &devices[index]);
    if (bad) return bad;
    if ((int)index >= gpus) return INVALID;
    *out = &devices[index];
    return SUCCESS;
}
int nvmlDeviceGetUUID(void *device, char *out, uint size) {
    ENTER(device);
    strncpy(out, GPU ? "GPU-22222222-0000-0000-0000-000000000001" : "GPU-11111111-0000-0000-0000-000000000000", size);
    return SUCCESS;
}
int nvmlDeviceGetName(void *device, char *out, uint size) {
    ENTER(device);
    strncpy(out, "NVIDIA H100 80GB HBM3", size);
    if (GPU >= 100) strncpy(out, GPU == 100 ? "NVIDIA H100 80GB HBM3 MIG 1g.10gb" : "NVIDIA H100 80GB HBM3 MIG 1c.2g.20gb", size);
    if (GPU == 0) LEAVE(out, size - 1);
    return SUCCESS;
}
typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *out) {
    ENTER(device);
    memset(out, 0, sizeof *out);
    strcpy(out->bus_id, GPU ? "00000000:00:0A.0" : "00000000:00:09.0");
    return SUCCESS;
}
ONE(nvmlDeviceGetMinorNumber, uint, minors[GPU])
ONE(nvmlDeviceGetPowerUsage, uint, 631950)
ONE(nvmlDeviceGetPowerManagementLimit, uint, 700000)
ONE(nvmlDeviceGetEnforcedPowerLimit, uint, 690000)
ONE(nvmlDeviceGetTotalEnergyConsumption, ull, 123456789ULL)
ONE(nvmlDeviceGetPcieReplayCounter, uint, 4)
ONE(nvmlDeviceGetCurrentClocksEventReasons, ull, 4 | 64)
ONE(nvmlDeviceGetPerformanceState, uint, 2)
int nvmlDeviceGetVbiosVersion(void *device, char *out, uint size) {
    ENTER(device); strncpy(out, "96.00.74.00.01", size); return SUCCESS;
}
int nvmlDeviceGetSerial(void *device, char *out, uint size) {
    (void)out; (void)size; ENTER(device); return NOT_SUPPORTED;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    ENTER(device); *major = 9; *minor = 0;
    if (is_blank(__func__)) *minor = -1;
    LEAVE(major, sizeof *major);
}
int nvmlDeviceGetClockInfo(void *device, uint kind, uint *out) {
    ENTER(device); *out = kind == 1 ? 1980 : 2619; LEAVE(out, sizeof *out);
}
int nvmlDeviceGetTemperature(void *device, uint sensor, uint *out) {
    (void)sensor; ENTER(device); *out = 61 + GPU; LEAVE(out, sizeof *out);
}
int nvmlDeviceGetUtilizationRates(void *device, uint *out) {
    ENTER(device); out[0] = 87; out[1] = 11; LEAVE(out, 2 * sizeof *out);
}
int nvmlDeviceGetEncoderUtilization(void *device, uint *out, uint *period) {
    ENTER(device); *out = 3; *period = 1000; LEAVE(out, sizeof *out);
}
int nvmlDeviceGetDecoderUtilization(void *device, uint *out, uint *period) {
    ENTER(device); *out = 5; *period = 1000; LEAVE(out, sizeof *out);
}
typedef struct { uint version; ull total, reserved, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_t *out) {
    ENTER(device);
    out->total = 85520809984ULL; out->reserved = 502267904ULL;
    out->used = 20780679168ULL; out->free = 64237862912ULL;
    if (GPU >= 100) { out->total = 10 << 20; out->reserved = 0; out->used = (GPU - 99) << 20; out->free = out->total - out->used; }
    LEAVE(out, sizeof *out);
}
int nvmlDeviceGetTotalEccErrors(void *device, uint kind, uint counter, ull *out) {
    ENTER(device); *out = 10 * kind + counter; LEAVE(out, sizeof *out);
}
int nvmlDeviceGetViolationStatus(void *device, uint policy, ull *out) {
    ENTER(device); out[0] = 1; out[1] = 1000 * policy; LEAVE(out, 2 * sizeof *out);
}
int nvmlDeviceGetRemappedRows(void *device, uint *corrected, uint *uncorrected, uint *pending, uint *failed) {
    ENTER(device); *corrected = 1; *uncorrected = 2; *pending = 0; *failed = 1; LEAVE(corrected, sizeof *corrected);
}
typedef struct {
    uint32_t id, scope; int64_t timestamp, latency; uint type, code;
    union { double d; uint u; ull l; } value;
} field_t;
int nvmlDeviceGetFieldValues(void *device, int count, field_t *fields) {
    ENTER(device);
    for (int i = 0; i < count; i++) {
        uint id = fields[i].id;
        int all = id == 82 || (id >= 29 && id <= 31);
        int first = id == 74 || id == 76 || id == 230 || (id >= 269 && id <= 271) || id == 197 || id == 198
            || id == 38 || id == 45 || id == 52 || id == 59 || id == 138 || id == 139 || (id >= 161 && id <= 163);
        fields[i].code = all || (first && GPU == 0) ? SUCCESS : NOT_SUPPORTED;
        fields[i].type = all ? 1 : 3;
        if (all) fields[i].value.u = id == 82 ? 54 : id;
        else fields[i].value.l = id == 230 ? 2 : id < 100 || id > 260 ? 1000000000ULL * id : 1000ULL * id + fields[i].scope;
        if (is_blank(__func__)) fields[i].value.l = all ? ~0u : ~0ULL;
    }
    return SUCCESS;
}
/* What only GPU 0 has. */
#define FIRST do { ENTER(device); if (GPU != 0) return NOT_SUPPORTED; } while (0)
int nvmlDeviceGetNvLinkState(void *device, uint link, uint *out) {
    FIRST;
    if (link > 1) return NOT_SUPPORTED;
    *out = link == 0;
    LEAVE(out, sizeof *out);
}
int nvmlDeviceGetNumFans(void *device, uint *out) { FIRST; *out = 1; LEAVE(out, sizeof *out); }
int nvmlDeviceGetFanSpeed_v2(void *device, uint fan, uint *out) {
    (void)fan; FIRST; *out = 45; LEAVE(out, sizeof *out);
}
ONE(nvmlDeviceGetCurrPcieLinkGeneration, uint, 4)
ONE(nvmlDeviceGetMaxPcieLinkGeneration, uint, 5)
ONE(nvmlDeviceGetCurrPcieLinkWidth, uint, 8)
ONE(nvmlDeviceGetMaxPcieLinkWidth, uint, 16)
int nvmlDeviceGetPcieThroughput(void *device, uint way, uint *out) {
    ENTER(device); usleep(20000); *out = 100 + way; LEAVE(out, sizeof *out);
}
typedef struct { uint version; unsigned char cluster[16]; uint status, clique; unsigned char state; uint health; } fabric_t;
int nvmlDeviceGetGpuFabricInfoV(void *device, fabric_t *out) {
    FIRST;
    out->status = SUCCESS; out->state = 3; out->health = 1 | 2 << 2 | 2 << 4 | 0 << 6 | 4 << 8;
    return SUCCESS;
}
typedef struct { uint code, state; char info[128], product[128]; uint enabled; uint year; uint16_t rest[5]; unsigned char status; } feature_t;
typedef struct { int supported; uint count; feature_t features[3]; } features_t;
int nvmlDeviceGetGridLicensableFeatures_v4(void *device, features_t *out) {
    ENTER(device);
    out->supported = GPU == 1; out->count = GPU == 1; out->features[0].state = 1;
    return SUCCESS;
}
typedef struct { uint pid; ull at; uint sm, memory, encoder, decoder; } used_t;
int nvmlDeviceGetProcessUtilization(void *device, used_t *out, uint *count, ull since) {
    ENTER(device);
    if (!out) { *count = 3; return INSUFFICIENT_SIZE; }
    memset(out, 0, 3 * sizeof *out);
    out[0].pid = out[1].pid = 4711;
    out[0].at = since + 2; out[0].sm = 40;
    out[1].at = since + 1; out[1].sm = 90; /* older */
    out[2].pid = 815; out[2].at = since + 1; out[2].sm = is_blank(__func__) ? ~0u : 10;
    *count = 3;
    return SUCCESS;
}
/* GPM: a sample knows when it was taken and of which instance (-1: the GPU). */
typedef struct { int number, instance; } sample_t;
static int samples_taken;
typedef struct { uint version, supported; } support_t;
int nvmlGpmQueryDeviceSupport(void *device, support_t *out) {
    ENTER(device); out->supported = GPU == 0; return SUCCESS;
}
int nvmlGpmSampleAlloc(sample_t **out) { *out = calloc(1, sizeof **out); return SUCCESS; }
int nvmlGpmSampleGet(void *device, sample_t *out) {
    FIRST;
    if (split[GPU]) return NOT_SUPPORTED;
    out->number = ++samples_taken; out->instance = -1;
    return SUCCESS;
}
int nvmlGpmMigSampleGet(void *device, uint instance, sample_t *out) {
    FIRST; out->number = ++samples_taken; out->instance = instance; return SUCCESS;
}
typedef struct { uint id, code; double value; char *names[3]; } gpm_t;
typedef struct { uint version, count; sample_t *before, *after; gpm_t metrics[]; } gpm_get_t;
int nvmlGpmMetricsGet(gpm_get_t *get) {
    if (get->version != 1 || get->before->number >= get->after->number) return INVALID;
    if (get->before->instance != get->after->instance) return INVALID;
    for (uint i = 0; i < get->count; i++) {
        get->metrics[i].code = get->metrics[i].id == 11 ? NOT_SUPPORTED : SUCCESS;
        get->metrics[i].value = get->metrics[i].id + (get->after->instance < 0 ? 0 : 10 * get->after->instance);
        if (is_blank(__func__)) get->metrics[i].value = 0.0 / 0.0;
    }
    return SUCCESS;
}
int nvmlDeviceGetMigMode(void *device, uint *now, uint *pending) {
    FIRST; *now = *pending = split[GPU]; return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, uint *out) { FIRST; *out = 7; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, uint index, void **out) {
    FIRST;
    if (index > 2) return 6; /* not found */
    *out = &parts[index];
    return SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(void *device, uint *out) { ENTER(device); *out = GPU == 100 ? 3 : 5; return SUCCESS; }
typedef struct { uint pid; ull used; uint gpu_instance, compute_instance; } process_t;
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, uint *count, process_t *out) {
    ENTER(device);
    if (!out) { *count = 2; return INSUFFICIENT_SIZE; }
    out[0].pid = 4711; out[0].used = is_blank(__func__) ? 4294967295ULL : 17179869184ULL;
    out[1].pid = 815; out[1].used = ~0ULL; /* a driver that does not tell */
    *count = 2;
    return SUCCESS;
}
int nvmlEventSetCreate(void **out) {
    ENTER(NULL);
    *out = malloc(sizeof(int));
    *(int *)*out = event_tail;
    event_sets++;
    return SUCCESS;
}
int nvmlEventSetFree(void *set) { free(set); return SUCCESS; }
int nvmlDeviceRegisterEvents(void *device, ull types, void *set) {
    (void)types; (void)set; ENTER(device); return SUCCESS;
}
typedef struct { void *device; ull type, data; uint gpu_instance, compute_instance; } event_t;
int nvmlEventSetWait_v2(void *set, event_t *out, uint timeout_ms) {
    int *read = set;
    for (uint waited = 0; waited < timeout_ms; waited += 5) {
        pthread_mutex_lock(&lock);
        int there = *read < event_tail;
        if (there) {
            out->device = &devices[events[*read % 64].gpu];
            out->type = 8;
            out->data = events[(*read)++ % 64].xid;
        }
        pthread_mutex_unlock(&lock);
        if (there) return SUCCESS;
        usleep(5000);
    }
    return TIMEOUT;
}
