/* A block of a selective state-space stack, r + Mixer(RMSNorm(r)), forwards and backwards, for an XLA CPU device.

   The formulas are those of _mamba.py. Sounds of a batch are worked on side by side, LANES at a time, in vector
   registers; a tile of them is taken through all of time before the next, so that what it works on stays in the cache.
   The backward pass goes through spans of SPAN samples, the last first: it runs a span again from the state kept at its
   start, keeping what it needs, and then walks back through its samples.

   REAL, INTEGER, D, INNER, N (states a channel), TAPS, RANK and SPAN are defined in front of this file.
   Arrays, the last axis contiguous:
     params  [groups, PARAMS]       gain, in, conv, conv bias, selection, step, step bias, rates, skip, out
     r, out  [groups, time, D, batch]
     state   [groups, STATE, batch]  scan [N, INNER], then tail [INNER, PAST]
     kept    [groups, tiles, spans, STATE * LANES]
*/

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#define VECTOR 64
#define LANES ((int)(VECTOR / sizeof(real)))
#define PAST (TAPS - 1)
#define WIDE (2 * INNER)
#define SELECTED (RANK + 2 * N)
#define STATE (N * INNER + INNER * PAST)
#define PARAMS (D + WIDE * D + INNER * TAPS + INNER + SELECTED * INNER + INNER * RANK + INNER + INNER * N + INNER + D * INNER)
#define INLINE static inline __attribute__((always_inline))

typedef REAL real;
typedef INTEGER integer;
typedef real vec __attribute__((vector_size(VECTOR)));
typedef integer ivec __attribute__((vector_size(VECTOR)));

/* ---- elementary functions */

INLINE vec all(real x) { return x - (vec){0}; }
INLINE vec pick(ivec where, vec yes, vec no) { return (vec)((where & (ivec)yes) | (~where & (ivec)no)); }

/* e^x = 2^k e^y with |y| <= ln 2 / 2, the latter by its Taylor series. NaN stays NaN. */
INLINE vec exponential(vec x) {
  const int wide = sizeof(real) == 8;
  const real low = wide ? -708 : -87, high = wide ? 709 : 88;
  const real magic = wide ? (real)6755399441055744.0 : (real)12582912.0; /* adding it rounds to a whole number */
  const real ln2_high = wide ? (real)6.93147180369123816490e-01 : (real)0.693359375;
  const real ln2_low = wide ? (real)1.90821492927058770002e-10 : (real)-2.12194440e-4;
  static const real series[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880,
                                1.0 / 40320,      1.0 / 5040,      1.0 / 720,      1.0 / 120,     1.0 / 24,
                                1.0 / 6,          0.5,             1,              1};
  const int first = wide ? 0 : 6;
  x = pick(x < low, all(low), x);
  x = pick(x > high, all(high), x);
  const vec shifted = x * (real)1.4426950408889634 + magic, k = shifted - magic;
  const vec y = x - k * ln2_high - k * ln2_low;
  vec sum = all(series[first]);
  for (int n = first + 1; n < 14; ++n) sum = sum * y + series[n];
  return sum * (vec)(((ivec)shifted + (integer)(wide ? 1023 : 127)) << (integer)(wide ? 52 : 23));
}

INLINE vec sigmoid(vec x) { return 1 / (1 + exponential(-x)); }

/* ln(1 + e^x) = max(x, 0) + 2 artanh(z / (2 + z)) with z = e^-|x|, and its derivative. */
INLINE vec softplus(vec x, vec *slope) {
  const ivec positive = x > 0;
  const vec z = exponential(pick(positive, -x, x)), s = z / (2 + z), square = s * s;
  vec sum = all(0);
  for (int n = sizeof(real) == 8 ? 33 : 15; n >= 1; n -= 2) sum = sum * square + (real)(1.0 / n);
  *slope = pick(positive, all(1), z) / (1 + z);
  return pick(positive, x, all(0)) + 2 * s * sum;
}

/* Of a row of the batch; lanes beyond it are 0. */
INLINE vec load(const real *row, int lanes) {
  vec v = {0};
  if (lanes == LANES)
    memcpy(&v, row, VECTOR);
  else
    memcpy(&v, row, lanes * sizeof(real));
  return v;
}

INLINE void store(real *row, vec v, int lanes) {
  if (lanes == LANES)
    memcpy(row, &v, VECTOR);
  else
    memcpy(row, &v, lanes * sizeof(real));
}

/* ---- one sample */

typedef struct {
  const real *gain, *in, *conv, *conv_bias, *selection, *step, *step_bias, *rates, *skip, *out;
} Params;

typedef struct { /* in the order of params */
  vec gain[D], in[WIDE][D], conv[INNER][TAPS], conv_bias[INNER], selection[SELECTED][INNER], step[INNER][RANK],
      step_bias[INNER], rates[INNER][N], skip[INNER], out[D][INNER];
} Gradient;

typedef struct { /* what the backward pass reads */
  vec r[D], inverse, normed[D], gate[INNER], gate_slope[INNER], conv_slope[INNER], u[INNER], selected[SELECTED],
      delta[INNER], delta_slope[INNER], y[INNER], decay[N][INNER];
} Sample;

typedef struct {
  vec scan[SPAN + 1][N][INNER]; /* before the span, then after each sample */
  vec past[SPAN + PAST][INNER]; /* inputs of the convolution */
  Sample samples[SPAN];
  vec scan_bar[N][INNER], past_bar[SPAN + PAST][INNER];
  Gradient gradient;
} Work;

static Params params_at(const real *p) {
  Params q;
  q.gain = p, p += D;
  q.in = p, p += WIDE * D;
  q.conv = p, p += INNER * TAPS;
  q.conv_bias = p, p += INNER;
  q.selection = p, p += SELECTED * INNER;
  q.step = p, p += INNER * RANK;
  q.step_bias = p, p += INNER;
  q.rates = p, p += INNER * N;
  q.skip = p, p += INNER;
  q.out = p;
  return q;
}

static void sample_forward(const Params *p, vec (*before)[INNER], vec (*after)[INNER], vec (*past)[INNER], Sample *s,
                           vec *out) {
  vec mean = all(0);
  for (int d = 0; d < D; ++d) mean += s->r[d] * s->r[d];
  mean = mean / D + (real)1e-5;
  for (int i = 0; i < LANES; ++i) s->inverse[i] = 1 / (sizeof(real) == 8 ? sqrt(mean[i]) : sqrtf(mean[i]));
  for (int d = 0; d < D; ++d) s->normed[d] = s->r[d] * s->inverse * p->gain[d];
  for (int j = 0; j < INNER; ++j) {
    vec u = all(0), g = all(0);
    for (int d = 0; d < D; ++d) {
      u += p->in[j * D + d] * s->normed[d];
      g += p->in[(INNER + j) * D + d] * s->normed[d];
    }
    past[PAST][j] = u;
    const vec share = sigmoid(g);
    s->gate[j] = g * share;
    s->gate_slope[j] = share * (1 + g * (1 - share));
  }
  for (int j = 0; j < INNER; ++j) {
    vec sum = all(p->conv_bias[j]);
    for (int k = 0; k < TAPS; ++k) sum += p->conv[j * TAPS + k] * past[k][j];
    const vec share = sigmoid(sum);
    s->u[j] = sum * share;
    s->conv_slope[j] = share * (1 + sum * (1 - share));
  }
  for (int o = 0; o < SELECTED; ++o) {
    vec sums[2] = {{0}, {0}}; /* two chains of additions wait for each other half as long */
    for (int j = 0; j < INNER; ++j) sums[j & 1] += p->selection[o * INNER + j] * s->u[j];
    s->selected[o] = sums[0] + sums[1];
  }
  const vec *b = s->selected + RANK, *c = b + N;
  for (int d = 0; d < D; ++d) out[d] = s->r[d];
  for (int j = 0; j < INNER; ++j) {
    vec step = all(p->step_bias[j]);
    for (int k = 0; k < RANK; ++k) step += p->step[j * RANK + k] * s->selected[k];
    const vec delta = softplus(step, &s->delta_slope[j]), entering = delta * s->u[j];
    vec y = p->skip[j] * s->u[j];
    s->delta[j] = delta;
    for (int n = 0; n < N; ++n) {
      const vec decay = exponential(delta * p->rates[j * N + n]);
      s->decay[n][j] = decay;
      after[n][j] = decay * before[n][j] + entering * b[n];
      y += c[n] * after[n][j];
    }
    s->y[j] = y;
    const vec gated = y * s->gate[j];
    for (int d = 0; d < D; ++d) out[d] += p->out[d * INNER + j] * gated;
  }
}

/* From the cotangents of outputs and of what a sample leaves behind to those of inputs and of what it found;
   those of params are added up. */
static void sample_backward(const Params *p, const Sample *s, vec (*before)[INNER], vec (*after)[INNER],
                            vec (*past)[INNER], const vec *out_bar, vec (*scan_bar)[INNER], vec (*past_bar)[INNER],
                            Gradient *g, vec *r_bar) {
  vec selected_bar[SELECTED], u_bar[INNER], gate_bar[INNER];
  for (int o = 0; o < SELECTED; ++o) selected_bar[o] = all(0);
  vec *b_bar = selected_bar + RANK, *c_bar = b_bar + N;
  const vec *b = s->selected + RANK, *c = b + N;
  for (int j = 0; j < INNER; ++j) {
    const vec u = s->u[j], delta = s->delta[j], entering = delta * u, gated = s->y[j] * s->gate[j];
    vec gated_bar = all(0), delta_bar = all(0), entering_bar = all(0);
    for (int d = 0; d < D; ++d) {
      gated_bar += p->out[d * INNER + j] * out_bar[d];
      g->out[d][j] += out_bar[d] * gated;
    }
    const vec y_bar = gated_bar * s->gate[j];
    gate_bar[j] = gated_bar * s->y[j] * s->gate_slope[j];
    g->skip[j] += y_bar * u;
    for (int n = 0; n < N; ++n) {
      vec bar = scan_bar[n][j] + c[n] * y_bar;
      c_bar[n] += after[n][j] * y_bar;
      b_bar[n] += bar * entering;
      entering_bar += bar * b[n];
      bar *= s->decay[n][j];
      scan_bar[n][j] = bar;
      const vec exponent_bar = bar * before[n][j];
      g->rates[j][n] += exponent_bar * delta;
      delta_bar += exponent_bar * p->rates[j * N + n];
    }
    u_bar[j] = p->skip[j] * y_bar + entering_bar * delta;
    const vec step_bar = (delta_bar + entering_bar * u) * s->delta_slope[j];
    g->step_bias[j] += step_bar;
    for (int k = 0; k < RANK; ++k) {
      g->step[j][k] += step_bar * s->selected[k];
      selected_bar[k] += p->step[j * RANK + k] * step_bar;
    }
  }
  for (int j = 0; j < INNER; ++j) {
    vec bar = u_bar[j];
    for (int o = 0; o < SELECTED; ++o) {
      bar += p->selection[o * INNER + j] * selected_bar[o];
      g->selection[o][j] += selected_bar[o] * s->u[j];
    }
    bar *= s->conv_slope[j];
    g->conv_bias[j] += bar;
    for (int k = 0; k < TAPS; ++k) {
      g->conv[j][k] += bar * past[k][j];
      past_bar[k][j] += p->conv[j * TAPS + k] * bar;
    }
  }
  vec normed_bar[D], along = all(0);
  for (int d = 0; d < D; ++d) normed_bar[d] = all(0);
  for (int j = 0; j < INNER; ++j)
    for (int d = 0; d < D; ++d) {
      normed_bar[d] += p->in[j * D + d] * past_bar[PAST][j] + p->in[(INNER + j) * D + d] * gate_bar[j];
      g->in[j][d] += past_bar[PAST][j] * s->normed[d];
      g->in[INNER + j][d] += gate_bar[j] * s->normed[d];
    }
  for (int d = 0; d < D; ++d) {
    const vec unit = s->r[d] * s->inverse;
    g->gain[d] += normed_bar[d] * unit;
    normed_bar[d] *= p->gain[d];
    along += normed_bar[d] * unit;
  }
  for (int d = 0; d < D; ++d)
    r_bar[d] = out_bar[d] + s->inverse * (normed_bar[d] - s->r[d] * s->inverse * along / D);
}

/* ---- one tile of one group, all of time */

typedef struct {
  int64_t groups, tiles, spans, time, batch;
  const real *params, *r, *state, *out_bar, *last_bar;
  real *out, *last, *kept, *params_bar, *r_bar, *state_bar; /* params_bar: of each tile */
} Plan;

/* The state of a tile, in or out of an array [STATE, batch]. */
static void load_state(const real *rows, int64_t batch, int lanes, vec (*scan)[INNER], vec (*past)[INNER]) {
  for (int n = 0; n < N; ++n)
    for (int j = 0; j < INNER; ++j, rows += batch) scan[n][j] = load(rows, lanes);
  for (int j = 0; j < INNER; ++j)
    for (int k = 0; k < PAST; ++k, rows += batch) past[k][j] = load(rows, lanes);
}

static void store_state(real *rows, int64_t batch, int lanes, vec (*scan)[INNER], vec (*past)[INNER]) {
  for (int n = 0; n < N; ++n)
    for (int j = 0; j < INNER; ++j, rows += batch) store(rows, scan[n][j], lanes);
  for (int j = 0; j < INNER; ++j)
    for (int k = 0; k < PAST; ++k, rows += batch) store(rows, past[k][j], lanes);
}

static void span_forward(const Params *p, Work *w, const real *r, real *out, int64_t length, int64_t batch, int lanes) {
  for (int64_t t = 0; t < length; ++t) {
    Sample *s = &w->samples[t];
    vec found[D];
    for (int d = 0; d < D; ++d) s->r[d] = load(r + (t * D + d) * batch, lanes);
    sample_forward(p, w->scan[t], w->scan[t + 1], w->past + t, s, found);
    if (out)
      for (int d = 0; d < D; ++d) store(out + (t * D + d) * batch, found[d], lanes);
  }
}

static void forwards(const Plan *plan, int64_t group, int64_t tile, Work *w) {
  const Params p = params_at(plan->params + group * PARAMS);
  const int64_t batch = plan->batch, first = tile * LANES, size = D * batch;
  const int lanes = batch - first < LANES ? (int)(batch - first) : LANES;
  const int64_t at = group * plan->time * size + first, at_state = group * STATE * batch + first;
  load_state(plan->state + at_state, batch, lanes, w->scan[0], w->past);
  for (int64_t i = 0; i < plan->spans; ++i) {
    const int64_t begin = i * SPAN, length = plan->time - begin < SPAN ? plan->time - begin : SPAN;
    if (plan->kept) {
      real *kept = plan->kept + ((group * plan->tiles + tile) * plan->spans + i) * STATE * LANES;
      memcpy(kept, w->scan[0], sizeof w->scan[0]);
      memcpy(kept + N * INNER * LANES, w->past, PAST * sizeof w->past[0]);
    }
    span_forward(&p, w, plan->r + at + begin * size, plan->out + at + begin * size, length, batch, lanes);
    memmove(w->scan[0], w->scan[length], sizeof w->scan[0]);
    memmove(w->past, w->past + length, PAST * sizeof w->past[0]);
  }
  store_state(plan->last + at_state, batch, lanes, w->scan[0], w->past);
}

static void backwards(const Plan *plan, int64_t group, int64_t tile, Work *w) {
  const Params p = params_at(plan->params + group * PARAMS);
  const int64_t batch = plan->batch, first = tile * LANES, size = D * batch;
  const int lanes = batch - first < LANES ? (int)(batch - first) : LANES;
  const int64_t at = group * plan->time * size + first, at_state = group * STATE * batch + first;
  memset(&w->gradient, 0, sizeof w->gradient);
  load_state(plan->last_bar + at_state, batch, lanes, w->scan_bar, w->past_bar);
  for (int64_t i = plan->spans - 1; i >= 0; --i) {
    const int64_t begin = i * SPAN, length = plan->time - begin < SPAN ? plan->time - begin : SPAN;
    const real *kept = plan->kept + ((group * plan->tiles + tile) * plan->spans + i) * STATE * LANES;
    memcpy(w->scan[0], kept, sizeof w->scan[0]);
    memcpy(w->past, kept + N * INNER * LANES, PAST * sizeof w->past[0]);
    span_forward(&p, w, plan->r + at + begin * size, NULL, length, batch, lanes);
    memmove(w->past_bar + length, w->past_bar, PAST * sizeof w->past_bar[0]);
    memset(w->past_bar, 0, length * sizeof w->past_bar[0]);
    for (int64_t t = length - 1; t >= 0; --t) {
      const int64_t row = at + (begin + t) * size;
      vec bar[D], found[D];
      for (int d = 0; d < D; ++d) bar[d] = load(plan->out_bar + row + d * batch, lanes);
      sample_backward(&p, &w->samples[t], w->scan[t], w->scan[t + 1], w->past + t, bar, w->scan_bar, w->past_bar + t,
                      &w->gradient, found);
      for (int d = 0; d < D; ++d) store(plan->r_bar + row + d * batch, found[d], lanes);
    }
  }
  store_state(plan->state_bar + at_state, batch, lanes, w->scan_bar, w->past_bar);
  real *params_bar = plan->params_bar + (group * plan->tiles + tile) * PARAMS;
  const vec *sums = (const vec *)&w->gradient;
  for (int64_t n = 0; n < PARAMS; ++n) {
    params_bar[n] = 0;
    for (int lane = 0; lane < lanes; ++lane) params_bar[n] += sums[n][lane];
  }
}

/* ---- all tiles of all groups, shared among threads */

/* Numbers too small to be normal count as 0, as in XLA's own programs. */
#if defined(__SSE2__)
#define FLUSH_BEGIN const unsigned mode = _mm_getcsr(); _mm_setcsr(mode | 0x8040)
#define FLUSH_END _mm_setcsr(mode)
#else
#define FLUSH_BEGIN
#define FLUSH_END
#endif

typedef struct {
  Plan plan;
  int64_t pieces;
  atomic_llong next, done, users, failed;
} Job;

/* Takes pieces until none is left. Which thread does a piece changes nothing in its result. */
static void work_on(void *data) {
  Job *job = data;
  const Plan *plan = &job->plan;
  Work *work = NULL;
  FLUSH_BEGIN;
  for (;;) {
    const int64_t piece = atomic_fetch_add(&job->next, 1);
    if (piece >= job->pieces) break;
    if (!work && posix_memalign((void **)&work, VECTOR, sizeof *work)) work = NULL, atomic_store(&job->failed, 1);
    if (work) (plan->params_bar ? backwards : forwards)(plan, piece / plan->tiles, piece % plan->tiles, work);
    atomic_fetch_add(&job->done, 1);
  }
  FLUSH_END;
  free(work);
  if (atomic_fetch_sub(&job->users, 1) == 1) free(job);
}

static int run(const Plan *plan, const XLA_FFI_CallFrame *frame) {
  Job *job = malloc(sizeof *job);
  if (!job) return 1;
  job->plan = *plan, job->pieces = plan->groups * plan->tiles;
  atomic_init(&job->next, 0), atomic_init(&job->done, 0), atomic_init(&job->failed, 0), atomic_init(&job->users, 2);
  int64_t helpers = 0;
  if (frame) {
    XLA_FFI_ThreadPool_NumThreads_Args count = {XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, NULL, frame->ctx, &helpers};
    XLA_FFI_Error *error = frame->api->XLA_FFI_ThreadPool_NumThreads(&count);
    if (error) {
      XLA_FFI_Error_Destroy_Args destroy = {XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, NULL, error};
      frame->api->XLA_FFI_Error_Destroy(&destroy), helpers = 0;
    }
  }
  if (helpers > job->pieces - 1) helpers = job->pieces - 1;
  for (int64_t n = 0; n < helpers; ++n) {
    XLA_FFI_ThreadPool_Schedule_Args task = {XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, NULL, frame->ctx, work_on, job};
    atomic_fetch_add(&job->users, 1);
    XLA_FFI_Error *error = frame->api->XLA_FFI_ThreadPool_Schedule(&task);
    if (error) {
      XLA_FFI_Error_Destroy_Args destroy = {XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, NULL, error};
      frame->api->XLA_FFI_Error_Destroy(&destroy), atomic_fetch_sub(&job->users, 1);
    }
  }
  work_on(job); /* a helper that comes too late finds nothing to do, so nobody waits for one that has not begun */
  while (atomic_load(&job->done) < job->pieces) sched_yield();
  const int failed = (int)atomic_load(&job->failed);
  if (atomic_fetch_sub(&job->users, 1) == 1) free(job);
  return failed;
}

/* ---- calls */

#define ARGUMENT(n) ((XLA_FFI_Buffer *)frame->args.args[n])
#define RESULT(n) ((XLA_FFI_Buffer *)frame->rets.rets[n])
#define DATA(buffer) ((real *)(buffer)->data)

static int answers_metadata(XLA_FFI_CallFrame *frame) {
  if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  metadata->traits = 0;
  return 1;
}

static Plan plan_of(const XLA_FFI_CallFrame *frame) {
  const int64_t *dims = ARGUMENT(1)->dims;
  Plan plan = {.groups = dims[0], .time = dims[1], .batch = dims[3], .params = DATA(ARGUMENT(0)), .r = DATA(ARGUMENT(1))};
  plan.tiles = (plan.batch + LANES - 1) / LANES, plan.spans = (plan.time + SPAN - 1) / SPAN;
  return plan;
}

static XLA_FFI_Error *answer(XLA_FFI_CallFrame *frame, const Plan *plan) {
  if (!run(plan, frame)) return NULL;
  XLA_FFI_Error_Create_Args args = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, NULL, "no memory for the block's workspace",
                                    XLA_FFI_Error_Code_RESOURCE_EXHAUSTED};
  return frame->api->XLA_FFI_Error_Create(&args);
}

/* params, r, state -> out, last[, kept] */
XLA_FFI_Error *block_forward(XLA_FFI_CallFrame *frame) {
  if (answers_metadata(frame)) return NULL;
  Plan plan = plan_of(frame);
  plan.state = DATA(ARGUMENT(2));
  plan.out = DATA(RESULT(0)), plan.last = DATA(RESULT(1)), plan.kept = frame->rets.size > 2 ? DATA(RESULT(2)) : NULL;
  return answer(frame, &plan);
}

/* params, r, kept, out_bar, last_bar -> params_bar of each tile, r_bar, state_bar */
XLA_FFI_Error *block_backward(XLA_FFI_CallFrame *frame) {
  if (answers_metadata(frame)) return NULL;
  Plan plan = plan_of(frame);
  plan.kept = DATA(ARGUMENT(2)), plan.out_bar = DATA(ARGUMENT(3)), plan.last_bar = DATA(ARGUMENT(4));
  plan.params_bar = DATA(RESULT(0)), plan.r_bar = DATA(RESULT(1)), plan.state_bar = DATA(RESULT(2));
  return answer(frame, &plan);
}
