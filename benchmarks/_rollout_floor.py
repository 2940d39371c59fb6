"""What a rollout costs at least: the same arithmetic in C, forwards and backwards, on one core.

Coefficients lie as a loop wants them, [time][term][batch], which nothing in the library can count on; no bounds, no
sub-steps, no interpolation, no checks. The transpose is written by hand: the states are kept, the stages worked out
again. One program for an order and a batch, so that the compiler knows every length.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = r"""
#include <string.h>
#define TERMS (P * P)
#define EACH for (int b = 0; b < WIDTH; ++b)
typedef float row[WIDTH];

/* a = sum_pk c[p][k] x^p v^k */
static inline void field(float (*restrict c)[BATCH], const float *restrict x, const float *restrict v,
                         float *restrict a) {
  EACH {
    float sum = 0;
#pragma GCC unroll 16
    for (int p = P - 1; p >= 0; --p) {
      float of_v = c[p * P + P - 1][b];
#pragma GCC unroll 16
      for (int k = P - 2; k >= 0; --k) of_v = of_v * v[b] + c[p * P + k][b];
      sum = p == P - 1 ? of_v : sum * x[b] + of_v;
    }
    a[b] = sum;
  }
}

static inline void field_back(float (*restrict c)[BATCH], const float *restrict x, const float *restrict v,
                              const float *restrict a, float *restrict by_x, float *restrict by_v,
                              float (*restrict g)[BATCH]) {
  EACH {
    float sum = 0, slope_x = 0, slope_v = 0;
#pragma GCC unroll 16
    for (int p = P - 1; p >= 0; --p) {
      float of_v = c[p * P + P - 1][b], slope = 0;
#pragma GCC unroll 16
      for (int k = P - 2; k >= 0; --k) {
        slope = slope * v[b] + of_v;
        of_v = of_v * v[b] + c[p * P + k][b];
      }
      slope_x = slope_x * x[b] + sum;
      slope_v = slope_v * x[b] + slope;
      sum = sum * x[b] + of_v;
    }
    by_x[b] = a[b] * slope_x;
    by_v[b] = a[b] * slope_v;
    float of_x = a[b];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      float term = of_x;
#pragma GCC unroll 16
      for (int k = 0; k < P; ++k) {
        g[p * P + k][b] += term;
        term *= v[b];
      }
      of_x *= x[b];
    }
  }
}

static inline void stages(float (*restrict c)[BATCH], row xs[4], row vs[4], row a[3]) {
  field(c, xs[0], vs[0], a[0]);
  EACH xs[1][b] = xs[0][b] + 0.5f * vs[0][b], vs[1][b] = vs[0][b] + 0.5f * a[0][b];
  field(c, xs[1], vs[1], a[1]);
  EACH xs[2][b] = xs[0][b] + 0.5f * vs[1][b], vs[2][b] = vs[0][b] + 0.5f * a[1][b];
  field(c, xs[2], vs[2], a[2]);
  EACH xs[3][b] = xs[0][b] + vs[2][b], vs[3][b] = vs[0][b] + a[2][b];
}

/* all_x[0] and all_v[0] are given. */
void forward(int samples, float (*restrict c)[TERMS][BATCH], float (*restrict all_x)[BATCH],
             float (*restrict all_v)[BATCH]) {
  for (int t = 0; t + 1 < samples; ++t)
    for (int at = 0; at < BATCH; at += WIDTH) {
      row xs[4], vs[4], a[3], last;
      float(*here)[BATCH] = (float(*)[BATCH])(&c[t][0][at]);
      memcpy(xs[0], all_x[t] + at, sizeof(row)), memcpy(vs[0], all_v[t] + at, sizeof(row));
      stages(here, xs, vs, a);
      field(here, xs[3], vs[3], last);
      EACH {
        all_x[t + 1][at + b] = xs[0][b] + vs[0][b] + (a[0][b] + a[1][b] + a[2][b]) * (1.0f / 6.0f);
        all_v[t + 1][at + b] = vs[0][b] + (a[0][b] + 2 * (a[1][b] + a[2][b]) + last[b]) * (1.0f / 6.0f);
      }
    }
}

/* p and q come as cotangents of the last sample and leave as those of the first. */
void backward(int samples, float (*restrict c)[TERMS][BATCH], float (*restrict all_x)[BATCH],
              float (*restrict all_v)[BATCH], float (*restrict given_x)[BATCH], float (*restrict given_v)[BATCH],
              float (*restrict g)[TERMS][BATCH], float *restrict p, float *restrict q) {
  memset(g[samples - 1], 0, sizeof g[0]);
  for (int t = samples - 2; t >= 0; --t) {
    memset(g[t], 0, sizeof g[0]);
    for (int at = 0; at < BATCH; at += WIDTH) {
      row xs[4], vs[4], a[3], x1, v1, x2, v2, x3, v3, x4, v4, outer, given;
      float(*here)[BATCH] = (float(*)[BATCH])(&c[t][0][at]), (*by)[BATCH] = (float(*)[BATCH])(&g[t][0][at]);
      memcpy(xs[0], all_x[t] + at, sizeof(row)), memcpy(vs[0], all_v[t] + at, sizeof(row));
      stages(here, xs, vs, a);
      EACH given[b] = q[at + b] * (1.0f / 6.0f), outer[b] = (p[at + b] + q[at + b]) * (1.0f / 6.0f);
      field_back(here, xs[3], vs[3], given, x4, v4, by);
      EACH given[b] = outer[b] + q[at + b] * (1.0f / 6.0f) + v4[b];
      field_back(here, xs[2], vs[2], given, x3, v3, by);
      EACH v3[b] += x4[b], given[b] = outer[b] + q[at + b] * (1.0f / 6.0f) + 0.5f * v3[b];
      field_back(here, xs[1], vs[1], given, x2, v2, by);
      EACH v2[b] += 0.5f * x3[b], given[b] = outer[b] + 0.5f * v2[b];
      field_back(here, xs[0], vs[0], given, x1, v1, by);
      EACH {
        q[at + b] += p[at + b] + v4[b] + v3[b] + v2[b] + 0.5f * x2[b] + v1[b] + given_v[t][at + b];
        p[at + b] += x4[b] + x3[b] + x2[b] + x1[b] + given_x[t][at + b];
      }
    }
  }
}
"""

Floats = NDArray[np.float32]


class RolloutFloor:
    """Rollouts of Σ c[p][k] x^p v^k, all P² terms, float32.

    Arrays are contiguous: coefficients and their cotangents ``[time, terms, batch]``, states ``[time, batch]``.
    """

    def __init__(self, order: int, batch: int, *, compiler: str = "cc") -> None:
        self.order, self.batch, self.compiler = order, batch, compiler
        self.width = next(width for width in (16, 8, 4, 2, 1) if batch % width == 0)

    @cached_property
    def _library(self) -> ctypes.CDLL:
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder) / "floor.c", Path(folder) / "floor.so"
            source.write_text(SOURCE)
            sizes = (f"-DP={self.order + 1}", f"-DBATCH={self.batch}", f"-DWIDTH={self.width}")
            flags = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fPIC", "-shared")
            portable = [flag for flag in flags if "prefer" not in flag]
            for tried in (flags, portable):  # not every compiler knows how wide vectors may be
                command = [self.compiler, *tried, *sizes, str(source), "-o", str(made)]
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    return ctypes.CDLL(str(made))
            subprocess.run(command, check=True)
        raise RuntimeError("the floor did not compile")

    def forward(self, coefficients: Floats, x: Floats, v: Floats) -> None:
        """Fill x and v ``[time, batch]`` from their first rows."""
        self._library.forward(len(x), *map(_pointer, (coefficients, x, v)))

    def backward(
        self, coefficients: Floats, x: Floats, v: Floats, by_x: Floats, by_v: Floats, by_coefficients: Floats
    ) -> tuple[Floats, Floats]:
        """Fill the coefficients' cotangents; returns those of the first states."""
        p, q = by_x[-1].copy(), by_v[-1].copy()
        self._library.backward(len(x), *map(_pointer, (coefficients, x, v, by_x, by_v, by_coefficients, p, q)))
        return p, q


def _pointer(array: Floats) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
