/* What Triton server's front ends let through, stopped before it reaches a model.
 *
 * Loaded into tritonserver by LD_PRELOAD. The gRPC and HTTP front ends of the executable call libtritonserver by its
 * public C API (tritonserver.h); these functions stand before that API's and refuse
 *
 * - a request to a model that serves other models only (TRIDEX_INTERNAL_MODELS, names between commas): such a model may
 *   be of a backend that cannot tell one bad request from the good ones of its batch;
 * - an input without rows (2^32 are none, too), which no batcher ever takes from its queue, and one of more
 *   than TRIDEX_MAX_INPUT_BYTES;
 * - a string tensor whose bytes do not hold what its lengths say, which fails the whole batch in the Python backend;
 * - a request of whose inputs it has not seen every byte, such as one that is nothing but raw bytes over HTTP;
 * - a request that would be answered too late, by what models say of how long requests wait, and one to a model whose
 *   process is stuck, as the launcher says (gate.py): TRIDEX_GATE is the file, TRIDEX_GATE_LANES says where in it a
 *   model's requests are, as "search=0,search/bm25=1".
 *
 * A request that the Python backend has handed to a process and given up on may be sent again: TRIDEX_GIVEN_UP is what
 * is answered then, and the file tells the launcher.
 *
 * Calls that were cancelled are told to models by a file, TRIDEX_CANCELLED (cancelled_calls.py).
 *
 * A call that is cancelled at the wrong moment ends nothing (`outlive_cancellations`).
 *
 * Files are for their owner alone from when they are made: the Python backend sets the mode of its shared memory by
 * fchmod, whatever the umask, and who has opened a region once reads every request in it.
 *
 * The "classification" of an output of strings is refused, too: Triton 2.51 divides by the size of an element, which is
 * 0 for strings. Calls of backends and of libtritonserver itself pass.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct Error Error;
enum { INTERNAL = 1, NOT_FOUND = 2, INVALID_ARG = 3, UNAVAILABLE = 4 };  /* TRITONSERVER_Error_Code */
enum { TYPE_BYTES = 13 };                 /* TRITONSERVER_DataType */
enum { PARAMETER_INT = 1 };               /* TRITONSERVER_ParameterType */
enum { MEMORY_GPU = 2 };                  /* TRITONSERVER_MemoryType */
enum { MAX_INPUTS = 32, MAX_NAME = 64 };

extern Error* TRITONSERVER_BufferAttributesByteSize(void* attributes, size_t* size);
extern Error* TRITONSERVER_BufferAttributesMemoryType(void* attributes, int* type);
extern void TRITONSERVER_ErrorDelete(Error* error);
extern Error* TRITONBACKEND_RequestParameterCount(void* request, uint32_t* count);
extern Error* TRITONBACKEND_RequestParameter(
    void* request, uint32_t index, const char** key, int* type, const void** value);

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Where the executable lies in memory: a call from there is a front end's. */
static uintptr_t executable_begin = UINTPTR_MAX, executable_end, load_address;

static int find_executable(struct dl_phdr_info* info, size_t size, void* data) {
  (void)size; (void)data;
  load_address = info->dlpi_addr;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
    uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    if (begin < executable_begin) executable_begin = begin;
    if (begin + info->dlpi_phdr[i].p_memsz > executable_end) executable_end = begin + info->dlpi_phdr[i].p_memsz;
  }
  return 1;  /* The first object is the executable. */
}

#ifdef __x86_64__
/* In Triton 2.51 a gRPC call that is cancelled just when its answer is there ends the server, some once in a thousand
 * cancellations of quick requests: the callback with the answer and the thread with the cancellation both let go of
 * the call's state (triton-inference-server/server#8034, repaired by #8078 in 25.04). Here the callback takes no notice
 * of a cancellation and sends its answer, which gRPC throws away; then that thread alone lets go. The one place where
 * the callback asks, a call of five bytes, is made to say no. Versions that do not ask exactly once stay as they are. */
static const char callback_name[] =
    "_ZN6triton6server4grpc17ModelInferHandler21InferResponseCompleteEP30TRITONSERVER_InferenceResponsejPv";
static const char question_name[] = "_ZNK4grpc17ServerContextBase11IsCancelledEv";

static void answer_no(uint8_t* callback, size_t size, const uint8_t* question) {
  static const uint8_t no[5] = {0x31, 0xc0, 0x0f, 0x1f, 0x00};  /* xor eax, eax; nop */
  uint8_t* place = NULL;
  for (uint8_t* at = callback; at + sizeof no <= callback + size; at++) {
    int32_t distance;
    memcpy(&distance, at + 1, sizeof distance);
    if (*at != 0xe8 || at + sizeof no + distance != question) continue;  /* call */
    if (place != NULL) return;
    place = at;
  }
  if (place == NULL) return;
  uintptr_t page = (uintptr_t)place & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1);
  size_t length = (uintptr_t)place + sizeof no - page;
  if (mprotect((void*)page, length, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return;
  memcpy(place, no, sizeof no);
  mprotect((void*)page, length, PROT_READ | PROT_EXEC);
}

/* Finds both by the executable's own table of symbols, which the loader leaves in the file. */
static void outlive_cancellations(const uint8_t* file) {
  const Elf64_Shdr* sections = (const Elf64_Shdr*)(file + ((const Elf64_Ehdr*)file)->e_shoff);
  const Elf64_Sym* callback = NULL;
  const Elf64_Sym* question = NULL;
  for (int i = 0; i < ((const Elf64_Ehdr*)file)->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const Elf64_Sym* symbols = (const Elf64_Sym*)(file + sections[i].sh_offset);
    const char* names = (const char*)(file + sections[sections[i].sh_link].sh_offset);
    for (size_t j = 0; j < sections[i].sh_size / sizeof *symbols; j++) {
      const char* name = names + symbols[j].st_name;
      if (strcmp(name, callback_name) == 0) callback = &symbols[j];
      if (strcmp(name, question_name) == 0) question = &symbols[j];
    }
  }
  if (callback != NULL && question != NULL)
    answer_no((uint8_t*)load_address + callback->st_value, callback->st_size,
              (const uint8_t*)load_address + question->st_value);
}

static void mend_executable(void) {
  int descriptor = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  struct stat status;
  if (fstat(descriptor, &status) == 0) {
    void* file = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (file != MAP_FAILED) {
      outlive_cancellations(file);
      munmap(file, status.st_size);
    }
  }
  close(descriptor);
}
#else
static void mend_executable(void) {}
#endif

static size_t max_input_bytes;
static const char* internal_models;

typedef struct {
  uint32_t shortest_timeout_us;
  uint32_t assumed_timeout_us;
  uint64_t refused;
  uint32_t is_shut;
  uint32_t longest_refused_us;
  uint64_t let_through_ns;
} Lane;

typedef struct {
  uint32_t has_given_up;
  uint32_t is_guarded;
  Lane lanes[];
} Gate;

static volatile Gate* gate;
static int gate_length;
static const char* gate_lanes;
static const char* given_up;

static volatile uint64_t* cancelled;      /* places of calls that were cancelled, the numbers of the last ones */
static uint64_t cancelled_length;
static const char* call_parameter;
static uint64_t calls;                    /* how many there were */

/* A file that other processes write to and read; its bytes in `*size`. NULL where it is not there or has fewer than
   `least`. */
static void* shared_file(const char* path, size_t least, size_t* size) {
  void* file = MAP_FAILED;
  int descriptor = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (descriptor < 0) return NULL;
  struct stat status;
  if (fstat(descriptor, &status) == 0 && status.st_size >= (off_t)least) {
    *size = status.st_size;
    file = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  }
  close(descriptor);
  return file == MAP_FAILED ? NULL : file;
}

__attribute__((constructor)) static void set_up(void) {
  dl_iterate_phdr(find_executable, NULL);
  mend_executable();
  const char* most = getenv("TRIDEX_MAX_INPUT_BYTES");
  max_input_bytes = most != NULL ? strtoull(most, NULL, 10) : SIZE_MAX;
  internal_models = getenv("TRIDEX_INTERNAL_MODELS");
  gate_lanes = getenv("TRIDEX_GATE_LANES");
  given_up = getenv("TRIDEX_GIVEN_UP");
  call_parameter = getenv("TRIDEX_CALL_PARAMETER");
  size_t size = 0;
  if (gate_lanes != NULL && (gate = shared_file(getenv("TRIDEX_GATE"), sizeof(Gate), &size)) != NULL)
    gate_length = (size - sizeof(Gate)) / sizeof(Lane);
  /* Not in what only starts tritonserver, or is started by it. */
  if (gate != NULL && dlsym(RTLD_NEXT, "TRITONSERVER_ServerInferAsync") != NULL) gate->is_guarded = 1;
  if (call_parameter != NULL &&
      (cancelled = shared_file(getenv("TRIDEX_CANCELLED"), sizeof *cancelled, &size)) != NULL)
    cancelled_length = size / sizeof *cancelled;
}

#define FROM_FRONT_END \
  ((uintptr_t)__builtin_return_address(0) >= executable_begin && (uintptr_t)__builtin_return_address(0) < executable_end)

/* The inputs of the request that this thread is making, each as far as its bytes were seen. */
typedef struct {
  char name[MAX_NAME];
  int is_string;
  size_t size;
  uint64_t expected;    /* bytes that the string under way still wants */
  uint8_t length[4];    /* of the next one, as far as it is there */
  int length_bytes;
} Input;

static __thread const void* request_under_way;    /* another one is let through to no model */
static __thread Input inputs[MAX_INPUTS];
static __thread int input_count;
static __thread char model_under_way[MAX_NAME];
static __thread char mode_under_way[MAX_NAME];
static __thread uint64_t timeout_us_under_way;

/* Whether the Python backend says that it has given up on a process, which has not said for a second that it lives
 * (gate.py). From beginning to end: other errors hold what callers say. */
static int tells_of_giving_up(const char* message) {
  static const char begin[] = "Stub process '", end[] = "' is not healthy.";
  size_t length = strlen(message);
  return strcmp(message, "Stub process is not healthy.") == 0 || strcmp(message, "Failed to obtain the health mutex.") == 0 ||
         (length >= sizeof begin + sizeof end - 2 && strncmp(message, begin, sizeof begin - 1) == 0 &&
          strcmp(message + length - (sizeof end - 1), end) == 0);
}

Error* TRITONSERVER_ErrorNew(int code, const char* message) {
  REAL(TRITONSERVER_ErrorNew);
  if (code != INTERNAL || FROM_FRONT_END || !tells_of_giving_up(message)) return real(code, message);
  if (gate != NULL) gate->has_given_up = 1;
  return given_up != NULL ? real(UNAVAILABLE, given_up) : real(code, message);
}

static Error* refuse(int code, const char* format, const char* name, unsigned long long value, unsigned long long other) {
  char message[512];
  snprintf(message, sizeof message, format, name, value, other);
  return TRITONSERVER_ErrorNew(code, message);
}

static int is_internal(const char* model) {
  size_t length = strlen(model);
  for (const char* at = internal_models; at != NULL && length > 0 && (at = strstr(at, model)) != NULL; at += length) {
    int begins = at == internal_models || at[-1] == ',';
    if (begins && (at[length] == ',' || at[length] == '\0')) return 1;
  }
  return 0;
}

Error* TRITONSERVER_InferenceRequestNew(void** request, void* server, const char* model, int64_t version) {
  REAL(TRITONSERVER_InferenceRequestNew);
  if (!FROM_FRONT_END) return real(request, server, model, version);
  request_under_way = NULL;
  if (is_internal(model))
    return refuse(NOT_FOUND, "model '%.64s' serves other models only", model, 0, 0);
  Error* failure = real(request, server, model, version);
  if (failure != NULL) return failure;
  request_under_way = *request;
  input_count = 0;
  snprintf(model_under_way, sizeof model_under_way, "%s", model);
  mode_under_way[0] = '\0';
  timeout_us_under_way = 0;
  return NULL;
}

/* A raw input's name, type and shape are found out behind the guard. */
Error* TRITONSERVER_InferenceRequestAddRawInput(void* request, const char* name) {
  REAL(TRITONSERVER_InferenceRequestAddRawInput);
  if (FROM_FRONT_END)
    return refuse(INVALID_ARG, "a request of raw bytes alone is not taken; expected the JSON of KServe v2, in front of "
                  "binary data its length in the header Inference-Header-Content-Length, not 0", "", 0, 0);
  return real(request, name);
}

Error* TRITONSERVER_InferenceRequestAddInput(
    void* request, const char* name, int datatype, const int64_t* shape, uint64_t dimensions) {
  REAL(TRITONSERVER_InferenceRequestAddInput);
  if (FROM_FRONT_END) {
    for (uint64_t i = 0; i < dimensions; i++)
      if (shape[i] < (i == 0) || shape[i] > INT32_MAX)
        return refuse(INVALID_ARG, "input %.64s has %lld in dimension %llu of its shape; expected at least one row, and no "
                      "length below 0 or above 2147483647", name, (unsigned long long)shape[i], i);
    if (input_count == MAX_INPUTS)
      return refuse(INVALID_ARG, "input %.64s comes after %llu others; expected at most %llu inputs", name, MAX_INPUTS,
                    MAX_INPUTS);
    Input* input = &inputs[input_count++];
    memset(input, 0, sizeof *input);
    snprintf(input->name, sizeof input->name, "%s", name);
    input->is_string = datatype == TYPE_BYTES;
  }
  return real(request, name, datatype, shape, dimensions);
}

/* Goes on through a string tensor: a length of four bytes, little endian, before each string. */
static void follow_strings(Input* input, const uint8_t* bytes, size_t size) {
  while (size > 0) {
    if (input->expected > 0) {
      size_t taken = input->expected < size ? input->expected : size;
      input->expected -= taken;
      bytes += taken;
      size -= taken;
      continue;
    }
    input->length[input->length_bytes++] = *bytes++;
    size--;
    if (input->length_bytes == 4) {
      input->expected = input->length[0] | input->length[1] << 8 | input->length[2] << 16 |
                        (uint64_t)input->length[3] << 24;
      input->length_bytes = 0;
    }
  }
}

/* Looks at some bytes of an input, the ones behind those that were looked at before. */
static Error* look_at(const char* name, const void* base, size_t size, int memory_type) {
  for (int i = 0; i < input_count; i++) {
    Input* input = &inputs[i];
    if (strncmp(input->name, name, MAX_NAME - 1) != 0) continue;
    input->size += size;
    if (input->size > max_input_bytes)
      return refuse(INVALID_ARG, "input %.64s has %llu bytes or more; expected at most %llu", name, input->size,
                    max_input_bytes);
    if (input->is_string && memory_type != MEMORY_GPU) follow_strings(input, base, size);
  }
  return NULL;
}

Error* TRITONSERVER_InferenceRequestAppendInputData(
    void* request, const char* name, const void* base, size_t size, int memory_type, int64_t memory_id) {
  REAL(TRITONSERVER_InferenceRequestAppendInputData);
  if (FROM_FRONT_END) {
    Error* refusal = look_at(name, base, size, memory_type);
    if (refusal != NULL) return refusal;
  }
  return real(request, name, base, size, memory_type, memory_id);
}

Error* TRITONSERVER_InferenceRequestAppendInputDataWithBufferAttributes(
    void* request, const char* name, const void* base, void* attributes) {
  REAL(TRITONSERVER_InferenceRequestAppendInputDataWithBufferAttributes);
  if (FROM_FRONT_END) {
    size_t size = 0;
    int memory_type = 0;
    Error* refusal = TRITONSERVER_BufferAttributesByteSize(attributes, &size);
    if (refusal == NULL) refusal = TRITONSERVER_BufferAttributesMemoryType(attributes, &memory_type);
    if (refusal == NULL) refusal = look_at(name, base, size, memory_type);
    if (refusal != NULL) return refusal;
  }
  return real(request, name, base, attributes);
}

Error* TRITONSERVER_InferenceRequestSetTimeoutMicroseconds(void* request, uint64_t timeout_us) {
  REAL(TRITONSERVER_InferenceRequestSetTimeoutMicroseconds);
  if (FROM_FRONT_END) timeout_us_under_way = timeout_us;
  return real(request, timeout_us);
}

/* The parameter by which calls have numbers is no client's, whatever its type. */
#define REFUSE_OWN(key) \
  if (FROM_FRONT_END && call_parameter != NULL && strcmp(key, call_parameter) == 0) \
    return refuse(INVALID_ARG, "parameter %.64s is the server's own; expected none", key, 0, 0)

Error* TRITONSERVER_InferenceRequestSetStringParameter(void* request, const char* key, const char* value) {
  REAL(TRITONSERVER_InferenceRequestSetStringParameter);
  REFUSE_OWN(key);
  if (FROM_FRONT_END && strcmp(key, "mode") == 0) snprintf(mode_under_way, sizeof mode_under_way, "%s", value);
  return real(request, key, value);
}

Error* TRITONSERVER_InferenceRequestSetIntParameter(void* request, const char* key, int64_t value) {
  REAL(TRITONSERVER_InferenceRequestSetIntParameter);
  REFUSE_OWN(key);
  return real(request, key, value);
}

Error* TRITONSERVER_InferenceRequestSetBoolParameter(void* request, const char* key, _Bool value) {
  REAL(TRITONSERVER_InferenceRequestSetBoolParameter);
  REFUSE_OWN(key);
  return real(request, key, value);
}

Error* TRITONSERVER_InferenceRequestSetDoubleParameter(void* request, const char* key, double value) {
  REAL(TRITONSERVER_InferenceRequestSetDoubleParameter);
  REFUSE_OWN(key);
  return real(request, key, value);
}

/* Calls of clients have numbers, which go to models by a parameter: Triton server hands parameters on to the steps of an
 * ensemble, but not that a call was cancelled. */
static Error* number_call(void* request) {
  if (cancelled == NULL) return NULL;
  uint64_t number = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
  return TRITONSERVER_InferenceRequestSetIntParameter(request, call_parameter, (int64_t)number);
}

/* The number of a call; 0 where it has none yet. It is the last parameter. */
static uint64_t number_of_call(void* request) {
  uint32_t count = 0;
  const char* key = "";
  int type = 0;
  const void* value = NULL;
  Error* failure = TRITONBACKEND_RequestParameterCount(request, &count);
  if (failure == NULL && count > 0)
    failure = TRITONBACKEND_RequestParameter(request, count - 1, &key, &type, &value);
  if (failure != NULL) TRITONSERVER_ErrorDelete(failure);
  return value != NULL && type == PARAMETER_INT && strcmp(key, call_parameter) == 0 ? *(const int64_t*)value : 0;
}

Error* TRITONSERVER_InferenceRequestCancel(void* request) {
  REAL(TRITONSERVER_InferenceRequestCancel);
  if (FROM_FRONT_END && cancelled != NULL) {
    uint64_t number = number_of_call(request);
    if (number > 0) __atomic_store_n(&cancelled[number % cancelled_length], number, __ATOMIC_RELAXED);
  }
  return real(request);
}

/* The number that belongs to a name in "NAME=NUMBER,NAME=NUMBER", -1 where there is none. */
static int lane_of(const char* name) {
  size_t length = strlen(name);
  for (const char* at = gate_lanes; at != NULL && *at != '\0'; at = strchr(at, ','), at += at != NULL)
    if (strncmp(at, name, length) == 0 && at[length] == '=') return atoi(at + length + 1);
  return -1;
}

/* Refuses what nobody would answer, or what its model would refuse, too, because it would be answered too late. */
static Error* look_at_gate(void) {
  if (gate == NULL) return NULL;
  char name[2 * MAX_NAME];
  snprintf(name, sizeof name, "%s/%s", model_under_way, mode_under_way);
  int lane = lane_of(name);
  if (lane < 0) lane = lane_of(model_under_way);
  if (lane < 0 || lane >= gate_length) return NULL;
  volatile Lane* state = &gate->lanes[lane];
  if (state->is_shut)
    return refuse(UNAVAILABLE, "%.64s does not answer at the moment: a process that it needs is stuck", model_under_way, 0, 0);
  uint64_t shortest = state->shortest_timeout_us;
  uint64_t timeout = timeout_us_under_way > 0 ? timeout_us_under_way : state->assumed_timeout_us;
  if (timeout >= shortest) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    state->let_through_ns = now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
    return NULL;
  }
  uint32_t longest = __atomic_load_n(&state->longest_refused_us, __ATOMIC_RELAXED);
  while (timeout > longest && !__atomic_compare_exchange_n(&state->longest_refused_us, &longest, (uint32_t)timeout, 0,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  /* After the maximum, so that who reads the count finds a maximum that belongs to it. */
  __atomic_fetch_add(&state->refused, 1, __ATOMIC_RELEASE);
  uint64_t after = (shortest - timeout) / 10000 + 1;  /* hundredths of a second, rounded up */
  char message[512];
  snprintf(message, sizeof message, "OVERLOADED: the requests before this one at %.64s take too long; expected a timeout "
           "of %llu ms or more, or fewer requests; retry after %llu.%02llu s", model_under_way,
           (unsigned long long)(shortest / 1000 + 1), (unsigned long long)(after / 100),
           (unsigned long long)(after % 100));
  return TRITONSERVER_ErrorNew(INTERNAL, message);
}

Error* TRITONSERVER_ServerInferAsync(void* server, void* request, void* trace) {
  REAL(TRITONSERVER_ServerInferAsync);
  if (FROM_FRONT_END) {
    if (request != request_under_way)
      return refuse(INTERNAL, "the server's guard did not see this request being made", "", 0, 0);
    request_under_way = NULL;
    for (int i = 0; i < input_count; i++) {
      uint64_t missing = inputs[i].expected;
      if (missing == 0 && inputs[i].length_bytes > 0) missing = 4 - inputs[i].length_bytes;
      if (missing > 0)
        return refuse(INVALID_ARG, "input %.64s ends %llu bytes before its last string does; expected every string with "
                      "its length, %llu bytes, in front", inputs[i].name, missing, 4);
    }
    Error* refusal = look_at_gate();
    if (refusal == NULL) refusal = number_call(request);
    if (refusal != NULL) return refusal;
  }
  return real(server, request, trace);
}

int fchmod(int descriptor, mode_t mode) {
  REAL(fchmod);
  return real(descriptor, mode & ~(mode_t)077);
}

uint32_t TRITONSERVER_DataTypeByteSize(int datatype) {
  REAL(TRITONSERVER_DataTypeByteSize);
  uint32_t size = real(datatype);
  /* The front ends ask of strings in the classification alone: with 1 they go on to say that strings have no classes. */
  return size == 0 && FROM_FRONT_END ? 1 : size;
}
