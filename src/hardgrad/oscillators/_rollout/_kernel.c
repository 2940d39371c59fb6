/* Rollouts of x'' = sum_j c_j x^p_j v^k_j, forwards and backwards, as custom calls of an XLA CPU device.

   LANES rows of a batch are worked on side by side in vector registers. Arrays come as they are, coefficients
   [batch, frames, terms] and states [batch, samples]; pieces that fit a cache are turned to [entry][lane] on the way.

   In front of this file stand, written for one field and one kind of bounds: TERMS and KIND; the types real and
   integer, of one size, and SIGNLESS, all bits of that integer but the sign; in place of the line FIELD, functions of
   the coefficients c of a frame, that of term j in c[j * UNITS]:
       field(c, x, v)                          the acceleration
       field_back(c, x, v, a, &by_x, &by_v, g) its transpose; g[j] grows by a x^p_j v^k_j
       linear(c, x, v)                         c_10 x + c_01 v
       linear_back(c, x, v, a, &by_x, &by_v, g) */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef real vec __attribute__((vector_size(BYTES)));
typedef integer flags __attribute__((vector_size(BYTES)));

/* Two registers' worth of rows: while one waits for its sums, the processor works on the other. */
#define UNITS 2
#define WIDTH ((int)(BYTES / sizeof(real)))
#define LANES (UNITS * WIDTH)
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))

/* What is turned at a time: frames of coefficients, about 16 KB of them, and samples of states. */
#define FITTING ((int)(16384 / (TERMS * LANES * sizeof(real))))
#define TILE (FITTING < 1 ? 1 : FITTING)
#define CHUNK 32

#define FRAME (TERMS * UNITS)

enum { NONE, TANH, KNEE };

typedef struct {
  int64_t batch, frames, samples, hop, substeps, linear;
  real step, bound_x, bound_v, knee_x, knee_v, rest_x, rest_v;
} Plan;

typedef struct {
  vec *tile, *by_tile;           /* frames of coefficients, and their cotangents: TILE and the one after */
  vec *mixed[3], *begin;         /* coefficients between frames; states at which sub-steps begin */
  real *x, *v, *by_x, *by_v;     /* CHUNK samples */
} Work;

/* FIELD */

/* ---- bounds */

INLINE vec magnitude(vec u) { return (vec)((flags)u & SIGNLESS); }

INLINE int any(flags found) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)found, (__m512i)found) != 0;
#elif defined(__AVX__)
  return !_mm256_testz_si256((__m256i)found, (__m256i)found);
#else
  int64_t words[BYTES / 8], all = 0;
  memcpy(words, &found, sizeof words);
  for (int i = 0; i < BYTES / 8; ++i) all |= words[i];
  return all != 0;
#endif
}

/* The bent state and the slope there; the bound is knee + rest. */
APART void bend(vec *u, vec *slope, real knee, real rest) {
  const real by = (real)1 / rest;
  for (int lane = 0; lane < WIDTH; ++lane) {
    const real at = (*u)[lane], size = at < 0 ? -at : at;
    const int inside = size <= knee;
    const real t = inside ? 0 : TANH_OF((size - knee) * by);
    (*slope)[lane] = 1 - t * t;
    if (!inside) (*u)[lane] = at < 0 ? -(knee + rest * t) : knee + rest * t;
  }
}

APART vec bent_field(const Plan *plan, const vec *c, vec x, vec v) {
  vec X = x, V = v, slope;
  bend(&X, &slope, plan->knee_x, plan->rest_x);
  bend(&V, &slope, plan->knee_v, plan->rest_v);
  return field(c, X, V) + linear(c, x - X, v - V);
}

APART void bent_field_back(const Plan *plan, const vec *c, vec x, vec v, vec a, vec *by_x, vec *by_v, vec *g) {
  vec X = x, V = v, slope_x, slope_v, by_X, by_V, line_x, line_v;
  bend(&X, &slope_x, plan->knee_x, plan->rest_x);
  bend(&V, &slope_v, plan->knee_v, plan->rest_v);
  field_back(c, X, V, a, &by_X, &by_V, g);
  linear_back(c, x - X, v - V, a, &line_x, &line_v, g);
  *by_x = slope_x * by_X + (1 - slope_x) * line_x;
  *by_v = slope_v * by_V + (1 - slope_v) * line_v;
}

/* A state after a sample. */
INLINE void saturate(const Plan *plan, vec *x, vec *v) {
  if (KIND == TANH) {
    const real by_x = (real)1 / plan->bound_x, by_v = (real)1 / plan->bound_v;
    for (int lane = 0; lane < WIDTH; ++lane) {
      (*x)[lane] = plan->bound_x * TANH_OF((*x)[lane] * by_x);
      (*v)[lane] = plan->bound_v * TANH_OF((*v)[lane] * by_v);
    }
  } else if (KIND == KNEE && any((magnitude(*x) > plan->knee_x) | (magnitude(*v) > plan->knee_v))) {
    vec slope;
    bend(x, &slope, plan->knee_x, plan->rest_x);
    bend(v, &slope, plan->knee_v, plan->rest_v);
  }
}

/* Its transpose, from the state that was left: both slopes are 1 - t^2, and the state tells t. For TANH the knee is at 0. */
INLINE vec saturate_back(vec given, vec after, real knee, real rest) {
  if (KIND == NONE) return given;
  const vec size = magnitude(after);
  const vec t = (size - knee) * ((real)1 / rest);
  const vec bent = given * (1 - t * t);
  if (KIND == TANH) return bent;
  const flags inside = size <= knee;
  return (vec)(((flags)given & inside) | ((flags)bent & ~inside));
}

/* ---- one Runge-Kutta step of one unit */

INLINE void stages(const Plan *plan, const vec *const c[3], vec *xs, vec *vs, vec *a, int count, int bent) {
  const real h = plan->step, half = h / 2;
#define ACCELERATION(table, i) (bent ? bent_field(plan, table, xs[i], vs[i]) : field(table, xs[i], vs[i]))
  a[0] = ACCELERATION(c[0], 0);
  xs[1] = xs[0] + half * vs[0], vs[1] = vs[0] + half * a[0];
  a[1] = ACCELERATION(c[1], 1);
  xs[2] = xs[0] + half * vs[1], vs[2] = vs[0] + half * a[1];
  a[2] = ACCELERATION(c[1], 2);
  xs[3] = xs[0] + h * vs[2], vs[3] = vs[0] + h * a[2];
  if (count > 3) a[3] = ACCELERATION(c[2], 3);
#undef ACCELERATION
}

/* Almost always no stage is beyond a knee: all are worked out as if so, and again if not. */
INLINE int checked_stages(const Plan *plan, const vec *const c[3], vec *xs, vec *vs, vec *a, int count) {
  stages(plan, c, xs, vs, a, count, 0);
  if (KIND != KNEE) return 0;
  flags beyond = (magnitude(xs[0]) > plan->knee_x) | (magnitude(vs[0]) > plan->knee_v);
  for (int i = 1; i < 4; ++i) beyond |= (magnitude(xs[i]) > plan->knee_x) | (magnitude(vs[i]) > plan->knee_v);
  if (!any(beyond)) return 0;
  stages(plan, c, xs, vs, a, count, 1);
  return 1;
}

INLINE void step(const Plan *plan, const vec *const c[3], vec *x, vec *v) {
  const real h = plan->step;
  vec xs[4] = {*x}, vs[4] = {*v}, a[4];
  checked_stages(plan, c, xs, vs, a, 4);
  *x = *x + h * *v + (h * h / 6) * (a[0] + a[1] + a[2]);
  *v = *v + (h / 6) * (a[0] + 2 * (a[1] + a[2]) + a[3]);
}

/* From cotangents (p, q) of the next state to those of this one; g[i] belongs to the table c[i]. */
INLINE void step_back(const Plan *plan, const vec *const c[3], vec x, vec v, vec *p, vec *q, vec *const g[3]) {
  const real h = plan->step, half = h / 2;
  vec xs[4] = {x}, vs[4] = {v}, a[4], bx[4], bv[4];
  const int bent = checked_stages(plan, c, xs, vs, a, 3);
#define BACK(table, i, given)                                                             \
  do {                                                                                    \
    if (bent) bent_field_back(plan, c[table], xs[i], vs[i], given, &bx[i], &bv[i], g[table]); \
    else field_back(c[table], xs[i], vs[i], given, &bx[i], &bv[i], g[table]);             \
  } while (0)
  const vec outer = (h * h / 6) * *p + (h / 6) * *q, inner = outer + (h / 6) * *q;
  BACK(2, 3, (h / 6) * *q);
  BACK(1, 2, inner + h * bv[3]);
  bv[2] += h * bx[3];
  BACK(1, 1, inner + half * bv[2]);
  bv[1] += half * bx[2];
  BACK(0, 0, outer + half * bv[1]);
  *q += h * *p + bv[3] + bv[2] + bv[1] + half * bx[1] + bv[0];
  *p += bx[3] + bx[2] + bx[1] + bx[0];
#undef BACK
}

/* ---- one sample of all units */

INLINE real place_of(const Plan *plan, int64_t i, int64_t j, real at) {
  return ((real)i + ((real)j + at) / (real)plan->substeps) / (real)plan->hop;
}

static void mix(const vec *left, real place, vec *out) {
  for (int k = 0; k < FRAME; ++k) out[k] = left[k] + place * (left[FRAME + k] - left[k]);
}

/* Tables of sub-step j of the sample i after the frame at left. */
INLINE void tables_of(const Plan *plan, const Work *work, const vec *left, int64_t i, int64_t j, const vec *c[3]) {
  c[0] = c[1] = c[2] = left;
  if (plan->linear) {
    for (int at = 0; at < 3; ++at) mix(left, place_of(plan, i, j, (real)0.5 * at), work->mixed[at]), c[at] = work->mixed[at];
  } else if (plan->hop > 1) {
    if (j == 0) mix(left, (real)i / (real)plan->hop, work->mixed[0]);
    c[0] = c[1] = c[2] = work->mixed[0];
  }
}

INLINE void sub_steps(const Plan *plan, const Work *work, const vec *left, int64_t i, int64_t count, vec *x, vec *v,
                      vec *begin) {
  for (int64_t j = 0; j < count; ++j) {
    const vec *c[3];
    tables_of(plan, work, left, i, j, c);
    for (int u = 0; u < UNITS; ++u) {
      const vec *const mine[3] = {c[0] + u, c[1] + u, c[2] + u};
      if (begin) begin[(2 * j) * UNITS + u] = x[u], begin[(2 * j + 1) * UNITS + u] = v[u];
      step(plan, mine, &x[u], &v[u]);
    }
  }
}

/* The transpose, at state (x, v), of a sample that left (x_after, v_after). by_left is the left frame's. */
INLINE void sample_back(const Plan *plan, const Work *work, const vec *left, int64_t i, const vec *x, const vec *v,
                        const vec *x_after, const vec *v_after, vec *p, vec *q, vec *by_left) {
  vec *begin = work->begin, *by_right = by_left + FRAME;
  if (plan->substeps > 1) {
    vec x_now[UNITS], v_now[UNITS];
    memcpy(x_now, x, sizeof x_now), memcpy(v_now, v, sizeof v_now);
    sub_steps(plan, work, left, i, plan->substeps, x_now, v_now, begin);
  } else {
    memcpy(begin, x, UNITS * sizeof(vec)), memcpy(begin + UNITS, v, UNITS * sizeof(vec));
  }
  for (int u = 0; u < UNITS; ++u) {
    p[u] = saturate_back(p[u], x_after[u], plan->knee_x, plan->rest_x);
    q[u] = saturate_back(q[u], v_after[u], plan->knee_v, plan->rest_v);
  }
  if (plan->linear) {
    for (int64_t j = plan->substeps - 1; j >= 0; --j) {
      const vec *c[3];
      tables_of(plan, work, left, i, j, c);
      const real first = place_of(plan, i, j, 0), middle = place_of(plan, i, j, (real)0.5), last = place_of(plan, i, j, 1);
      for (int u = 0; u < UNITS; ++u) {
        vec g[3][TERMS];
        memset(g, 0, sizeof g);
        const vec *const mine[3] = {c[0] + u, c[1] + u, c[2] + u};
        vec *const to[3] = {g[0], g[1], g[2]};
        step_back(plan, mine, begin[2 * j * UNITS + u], begin[(2 * j + 1) * UNITS + u], &p[u], &q[u], to);
        for (int k = 0; k < TERMS; ++k) {
          const vec right = first * g[0][k] + middle * g[1][k] + last * g[2][k];
          by_right[k * UNITS + u] += right;
          by_left[k * UNITS + u] += g[0][k] + g[1][k] + g[2][k] - right;
        }
      }
    }
    return;
  }
  const vec *c[3];
  tables_of(plan, work, left, i, 0, c);
  const real place = plan->hop > 1 ? (real)i / (real)plan->hop : 0;
  for (int u = 0; u < UNITS; ++u) {
    vec g[TERMS];
    memset(g, 0, sizeof g);
    const vec *const mine[3] = {c[0] + u, c[0] + u, c[0] + u};
    vec *const to[3] = {g, g, g};
    for (int64_t j = plan->substeps - 1; j >= 0; --j)
      step_back(plan, mine, begin[2 * j * UNITS + u], begin[(2 * j + 1) * UNITS + u], &p[u], &q[u], to);
    if (plan->hop == 1) {
      for (int k = 0; k < TERMS; ++k) by_left[k * UNITS + u] += g[k];
    } else {
      for (int k = 0; k < TERMS; ++k) {
        by_left[k * UNITS + u] += (1 - place) * g[k];
        by_right[k * UNITS + u] += place * g[k];
      }
    }
  }
}

/* ---- [lane][entry] and [entry][lane] */

/* Rows of a batch are often a power of two apart and share a few lines of a cache: only the next ones are fetched ahead. */
#define PIECE 128
#define LINE ((int)(64 / sizeof(real)))
#define AHEAD(array, write)                                                              \
  for (int next = lane + BLOCK; next < lane + 2 * BLOCK && next < lanes; ++next)         \
    for (int64_t i = first; i < last; i += LINE) __builtin_prefetch(&(array)[next * stride + i], write)

#if defined(__SSE2__)
/* BLOCK rows of BLOCK numbers, 16 bytes each, turned over. */
#define BLOCK ((int)(16 / sizeof(real)))
typedef real block __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
INLINE void turn_block(real *to, int64_t to_stride, const real *from, int64_t from_stride) {
  if (sizeof(real) == 4) {
    __m128 a = (__m128)*(const block *)from, b = (__m128)*(const block *)(from + from_stride);
    __m128 c = (__m128)*(const block *)(from + 2 * from_stride), d = (__m128)*(const block *)(from + 3 * from_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    *(block *)to = (block)a, *(block *)(to + to_stride) = (block)b;
    *(block *)(to + 2 * to_stride) = (block)c, *(block *)(to + 3 * to_stride) = (block)d;
  } else {
    const __m128d a = (__m128d)*(const block *)from, b = (__m128d)*(const block *)(from + from_stride);
    *(block *)to = (block)_mm_unpacklo_pd(a, b), *(block *)(to + to_stride) = (block)_mm_unpackhi_pd(a, b);
  }
}
#else
#define BLOCK 1
INLINE void turn_block(real *to, int64_t to_stride, const real *from, int64_t from_stride) { *to = *from; }
#endif

static void turn_in(void *to, const real *from, int64_t stride, int64_t count, int lanes) {
  real *out = to;
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t last = first + PIECE < count ? first + PIECE : count;
    int lane = 0;
    for (; lane + BLOCK <= lanes; lane += BLOCK) {
      AHEAD(from, 0);
      int64_t i = first;
      for (; i + BLOCK <= last; i += BLOCK) turn_block(out + i * LANES + lane, LANES, from + lane * stride + i, stride);
      for (; i < last; ++i)
        for (int n = 0; n < BLOCK; ++n) out[i * LANES + lane + n] = from[(lane + n) * stride + i];
    }
    for (; lane < LANES; ++lane)
      for (int64_t i = first; i < last; ++i) out[i * LANES + lane] = lane < lanes ? from[lane * stride + i] : 0;
  }
}

static void turn_out(real *to, const void *from, int64_t stride, int64_t count, int lanes) {
  const real *in = from;
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t last = first + PIECE < count ? first + PIECE : count;
    int lane = 0;
    for (; lane + BLOCK <= lanes; lane += BLOCK) {
      AHEAD(to, 1);
      int64_t i = first;
      for (; i + BLOCK <= last; i += BLOCK) turn_block(to + lane * stride + i, stride, in + i * LANES + lane, LANES);
      for (; i < last; ++i)
        for (int n = 0; n < BLOCK; ++n) to[(lane + n) * stride + i] = in[i * LANES + lane + n];
    }
    for (; lane < lanes; ++lane)
      for (int64_t i = first; i < last; ++i) to[lane * stride + i] = in[i * LANES + lane];
  }
}

/* A tile's frames, and the one after if there is something to mix. */
static void load_tile(const Plan *plan, const Work *work, const real *coefficients, int64_t first, int lanes) {
  const int64_t left = plan->frames - first, wanted = plan->linear || plan->hop > 1 ? TILE + 1 : TILE;
  const int64_t count = left < wanted ? left : wanted;
  turn_in(work->tile, coefficients + first * TERMS, plan->frames * TERMS, count * TERMS, lanes);
}

/* ---- LANES rows of a batch */

static void forwards(const Plan *plan, const Work *work, const real *coefficients, const real *x0, const real *v0,
                     real *all_x, real *all_v, int lanes) {
  const int64_t steps = plan->samples - 1;
  vec x[UNITS], v[UNITS];
  turn_in(x, x0, 1, 1, lanes), turn_in(v, v0, 1, 1, lanes);
  turn_out(all_x, x, plan->samples, 1, lanes), turn_out(all_v, v, plan->samples, 1, lanes);
  int64_t frame = 0, i = 0, tile = -TILE, row = 0;
  for (int64_t t = 0; t < steps; ++t) {
    if (i == 0 && frame - tile >= TILE) load_tile(plan, work, coefficients, tile = frame, lanes);
    sub_steps(plan, work, work->tile + (frame - tile) * FRAME, i, plan->substeps, x, v, NULL);
    for (int u = 0; u < UNITS; ++u) saturate(plan, &x[u], &v[u]);
    memcpy(work->x + row * LANES, x, sizeof x), memcpy(work->v + row * LANES, v, sizeof v);
    if (++row == CHUNK || t == steps - 1) {
      turn_out(all_x + t + 2 - row, work->x, plan->samples, row, lanes);
      turn_out(all_v + t + 2 - row, work->v, plan->samples, row, lanes);
      row = 0;
    }
    if (++i == plan->hop) i = 0, ++frame;
  }
}

static void backwards(const Plan *plan, const Work *work, const real *coefficients, const real *all_x,
                      const real *all_v, const real *given_x, const real *given_v, real *by_coefficients, real *by_x0,
                      real *by_v0, int lanes) {
  const int64_t steps = plan->samples - 1, row_of = plan->samples, size = plan->frames * TERMS;
  const int64_t used = (steps + plan->hop - 1) / plan->hop + 1;
  for (int lane = 0; lane < lanes; ++lane)
    memset(by_coefficients + lane * size + used * TERMS, 0, (size - used * TERMS) * sizeof(real));
  memset(work->by_tile, 0, (TILE + 1) * FRAME * sizeof(vec));
  vec p[UNITS], q[UNITS], x[UNITS], v[UNITS], x_after[UNITS], v_after[UNITS];
  turn_in(p, given_x + steps, row_of, 1, lanes), turn_in(q, given_v + steps, row_of, 1, lanes);
  turn_in(x_after, all_x + steps, row_of, 1, lanes), turn_in(v_after, all_v + steps, row_of, 1, lanes);
  int64_t frame = (steps - 1) / plan->hop, i = (steps - 1) % plan->hop, tile = frame / TILE * TILE;
  load_tile(plan, work, coefficients, tile, lanes);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t row = t % CHUNK;
    if (row == CHUNK - 1 || t == steps - 1) {
      const int64_t first = t - row;
      turn_in(work->x, all_x + first, row_of, row + 1, lanes), turn_in(work->v, all_v + first, row_of, row + 1, lanes);
      turn_in(work->by_x, given_x + first, row_of, row + 1, lanes);
      turn_in(work->by_v, given_v + first, row_of, row + 1, lanes);
    }
    memcpy(x, work->x + row * LANES, sizeof x), memcpy(v, work->v + row * LANES, sizeof v);
    sample_back(plan, work, work->tile + (frame - tile) * FRAME, i, x, v, x_after, v_after, p, q,
                work->by_tile + (frame - tile) * FRAME);
    for (int u = 0; u < UNITS; ++u) {
      p[u] += ((const vec *)(work->by_x + row * LANES))[u];
      q[u] += ((const vec *)(work->by_v + row * LANES))[u];
      x_after[u] = x[u], v_after[u] = v[u];
    }
    if (--i >= 0) continue;
    i = plan->hop - 1;
    if (frame == tile) {
      /* The first frame of a tile is also the right one of the interval before it. */
      const int64_t count = used - 1 - tile < TILE ? used - 1 - tile : TILE;
      turn_out(by_coefficients + (tile + 1) * TERMS, work->by_tile + FRAME, size, count * TERMS, lanes);
      if (frame == 0) break;
      memcpy(work->by_tile + TILE * FRAME, work->by_tile, FRAME * sizeof(vec));
      memset(work->by_tile, 0, TILE * FRAME * sizeof(vec));
      load_tile(plan, work, coefficients, tile -= TILE, lanes);
    }
    --frame;
  }
  turn_out(by_coefficients, work->by_tile, size, TERMS, lanes);
  turn_out(by_x0, p, 1, 1, lanes), turn_out(by_v0, q, 1, 1, lanes);
}

/* ---- the calls */

static XLA_FFI_Error *refuse(XLA_FFI_CallFrame *frame, XLA_FFI_Error_Code code, const char *message) {
  XLA_FFI_Error_Create_Args args = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, NULL, message, code};
  return frame->api->XLA_FFI_Error_Create(&args);
}

static int answers_metadata(XLA_FFI_CallFrame *frame) {
  if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  metadata->traits = 0;
  return 1;
}

static double attribute(const XLA_FFI_CallFrame *frame, const char *name) {
  for (int64_t n = 0; n < frame->attrs.size; ++n) {
    const XLA_FFI_ByteSpan *found = frame->attrs.names[n];
    if (found->len != strlen(name) || memcmp(found->ptr, name, found->len)) continue;
    const XLA_FFI_Scalar *scalar = frame->attrs.attrs[n];
    if (scalar->dtype == XLA_FFI_DataType_F64) return *(const double *)scalar->value;
    if (scalar->dtype == XLA_FFI_DataType_S64) return (double)*(const int64_t *)scalar->value;
  }
  return -1;
}

#define ARGUMENT(n) ((XLA_FFI_Buffer *)frame->args.args[n])
#define RESULT(n) ((XLA_FFI_Buffer *)frame->rets.rets[n])
#define DATA(buffer) ((real *)(buffer)->data)

static Plan plan_of(const XLA_FFI_CallFrame *frame, int64_t samples) {
  Plan plan = {.batch = ARGUMENT(0)->dims[0], .frames = ARGUMENT(0)->dims[1], .samples = samples};
  plan.hop = (int64_t)attribute(frame, "hop");
  plan.substeps = (int64_t)attribute(frame, "substeps");
  plan.linear = (int64_t)attribute(frame, "linear");
  plan.step = (real)(1.0 / (double)plan.substeps);
  const double x = attribute(frame, "bound_x"), v = attribute(frame, "bound_v");
  const double knee = attribute(frame, "knee"), rest = attribute(frame, "rest");
  plan.bound_x = (real)x, plan.bound_v = (real)v;
  plan.knee_x = (real)(knee * x), plan.knee_v = (real)(knee * v);
  plan.rest_x = (real)(rest * x), plan.rest_v = (real)(rest * v);
  return plan;
}

/* One piece of memory, cut up; every part is a whole number of vectors. */
static void *work_of(const Plan *plan, Work *work) {
  const size_t tile = (size_t)(TILE + 1) * FRAME, chunk = (size_t)CHUNK * UNITS, begin = (size_t)plan->substeps * 2 * UNITS;
  vec *piece = NULL;
  if (posix_memalign((void **)&piece, BYTES, (2 * tile + 3 * FRAME + begin + 4 * chunk) * sizeof(vec))) return NULL;
  vec *next = piece;
  work->tile = next, next += tile;
  work->by_tile = next, next += tile;
  for (int n = 0; n < 3; ++n) work->mixed[n] = next, next += FRAME;
  work->begin = next, next += begin;
  real **chunks[4] = {&work->x, &work->v, &work->by_x, &work->by_v};
  for (int n = 0; n < 4; ++n) *chunks[n] = (real *)next, next += chunk;
  return piece;
}

/* Numbers too small to be normal count as 0, as in XLA's own programs: a song fades into hundreds of them. */
#if defined(__SSE2__)
#define FLUSH_BEGIN const unsigned mode = _mm_getcsr(); _mm_setcsr(mode | 0x8040)
#define FLUSH_END _mm_setcsr(mode)
#else
#define FLUSH_BEGIN
#define FLUSH_END
#endif

XLA_FFI_Error *rollout_forward(XLA_FFI_CallFrame *frame) {
  if (answers_metadata(frame)) return NULL;
  const Plan plan = plan_of(frame, RESULT(0)->dims[1]);
  Work work;
  void *piece = work_of(&plan, &work);
  if (!piece) return refuse(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "no memory for the rollout's workspace");
  FLUSH_BEGIN;
  for (int64_t row = 0; row < plan.batch; row += LANES) {
    const int lanes = plan.batch - row < LANES ? (int)(plan.batch - row) : LANES;
    const int64_t at = row * plan.samples;
    forwards(&plan, &work, DATA(ARGUMENT(0)) + row * plan.frames * TERMS, DATA(ARGUMENT(1)) + row,
             DATA(ARGUMENT(2)) + row, DATA(RESULT(0)) + at, DATA(RESULT(1)) + at, lanes);
  }
  FLUSH_END;
  free(piece);
  return NULL;
}

XLA_FFI_Error *rollout_backward(XLA_FFI_CallFrame *frame) {
  if (answers_metadata(frame)) return NULL;
  const Plan plan = plan_of(frame, ARGUMENT(1)->dims[1]);
  Work work;
  void *piece = work_of(&plan, &work);
  if (!piece) return refuse(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "no memory for the rollout's workspace");
  FLUSH_BEGIN;
  for (int64_t row = 0; row < plan.batch; row += LANES) {
    const int lanes = plan.batch - row < LANES ? (int)(plan.batch - row) : LANES;
    const int64_t at = row * plan.samples, from = row * plan.frames * TERMS;
    backwards(&plan, &work, DATA(ARGUMENT(0)) + from, DATA(ARGUMENT(1)) + at, DATA(ARGUMENT(2)) + at,
              DATA(ARGUMENT(3)) + at, DATA(ARGUMENT(4)) + at, DATA(RESULT(0)) + from, DATA(RESULT(1)) + row,
              DATA(RESULT(2)) + row, lanes);
  }
  FLUSH_END;
  free(piece);
  return NULL;
}
