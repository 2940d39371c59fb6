"""What a training step of a spiking network costs at least: BLAS for the products, C for the rest, one core.

LIF 128→64→64→20 with a leaky readout, as the library computes it; the transpose is written by hand. Spikes, membranes
and their cotangents of one time step are all that is live, inputs lie ``[time, batch, channels]``. The products are
SciPy's OpenBLAS, called through the pointers that SciPy itself exports; keep it to one thread, which is faster at these
sizes. Adam and the loss are included.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import cython_blas

SOURCE = r"""
#include <math.h>
#include <stdlib.h>
#include <string.h>
typedef void gemm(char *, char *, int *, int *, int *, float *, float *, int *, float *, int *, float *, float *,
                  int *);

/* out[m][n] = a[m][k] b[n][k]^T */
static void times_transposed(gemm *f, int m, int n, int k, float *a, float *b, float *out) {
  float one = 1, zero = 0;
  f("T", "N", &n, &m, &k, &one, b, &k, a, &k, &zero, out, &n);
}
/* out[m][k] = a[m][n] b[n][k] */
static void times(gemm *f, int m, int n, int k, float *a, float *b, float *out) {
  float one = 1, zero = 0;
  f("N", "N", &k, &m, &n, &one, b, &k, a, &n, &zero, out, &k);
}
/* out[n][k] += a[m][n]^T b[m][k] */
static void add_product(gemm *f, int m, int n, int k, float *a, float *b, float *out) {
  float one = 1;
  f("N", "T", &k, &n, &m, &one, b, &k, a, &n, &one, out, &k);
}

/* Inputs c0, layers c1 and c2, classes c3. */
typedef struct { int batch, time, c0, c1, c2, c3; float k, peak; } sizes;
/* Of parameters, or of their gradient, in a row. */
typedef struct { float *w1, *b1, *w2, *b2, *w3, *b3, *beta1, *beta2, *beta3; } parts;
static parts parts_of(sizes z, float *p) {
  parts q = {.w1 = p};
  q.b1 = q.w1 + z.c1 * z.c0, q.w2 = q.b1 + z.c1, q.b2 = q.w2 + z.c2 * z.c1, q.w3 = q.b2 + z.c2;
  q.b3 = q.w3 + z.c3 * z.c2, q.beta1 = q.b3 + z.c3, q.beta2 = q.beta1 + z.c1, q.beta3 = q.beta2 + z.c2;
  return q;
}

static void leak(int batch, int c, const float *restrict beta, const float *restrict bias, float *restrict v,
                 const float *restrict s, const float *restrict in) {
  for (int b = 0; b < batch; ++b)
    for (int j = 0; j < c; ++j) v[b * c + j] = beta[j] * v[b * c + j] + in[b * c + j] + bias[j] - s[b * c + j];
}
static void fire(int n, const float *restrict v, float *restrict s) {
  for (int i = 0; i < n; ++i) s[i] = v[i] > 1.0f ? 1.0f : 0.0f;
}
/* delta: cotangent of the membrane after the step; ds: of its spikes. Leaves that of the membrane before it. */
static void back(int batch, int c, float k, float peak, const float *restrict beta, const float *restrict v,
                 const float *restrict ds, float *restrict delta, float *restrict by_beta, float *restrict by_bias) {
  const float pk = 3.14159265358979f * k;
  for (int b = 0; b < batch; ++b)
    for (int j = 0; j < c; ++j) {
      const int i = b * c + j;
      const float u = pk * (v[i] - 1.0f), g = peak / (1.0f + u * u), d = delta[i];
      by_beta[j] += d * v[i];
      by_bias[j] += d;
      delta[i] = d * beta[j] + (ds[i] - d) * g;
    }
}

/* logits[b][j] = sum over time of the readout's membrane */
void forward(gemm *f, sizes z, float *x, float *p, float *v1, float *v2, float *v3, float *s1, float *s2, float *in,
             float *logits) {
  const parts q = parts_of(z, p);
  const int n1 = z.batch * z.c1, n2 = z.batch * z.c2, n3 = z.batch * z.c3;
  memset(v1, 0, 4 * n1), memset(v2, 0, 4 * n2), memset(v3, 0, 4 * n3), memset(logits, 0, 4 * n3);
  for (int t = 0; t < z.time; ++t) {
    float *here1 = v1 + (size_t)t * n1, *here2 = v2 + (size_t)t * n2, *here3 = v3 + (size_t)t * n3;
    fire(n1, here1, s1), fire(n2, here2, s2);
    memcpy(here1 + n1, here1, 4 * n1), memcpy(here2 + n2, here2, 4 * n2);
    times_transposed(f, z.batch, z.c1, z.c0, x + (size_t)t * z.batch * z.c0, q.w1, in);
    leak(z.batch, z.c1, q.beta1, q.b1, here1 + n1, s1, in);
    times_transposed(f, z.batch, z.c2, z.c1, s1, q.w2, in);
    leak(z.batch, z.c2, q.beta2, q.b2, here2 + n2, s2, in);
    times_transposed(f, z.batch, z.c3, z.c2, s2, q.w3, in);
    for (int b = 0; b < z.batch; ++b)
      for (int j = 0; j < z.c3; ++j) {
        const int i = b * z.c3 + j;
        const float next = q.beta3[j] * here3[i] + in[i] + q.b3[j];
        here3[n3 + i] = next;
        logits[i] += next;
      }
  }
}

/* given: cotangent of the logits. g: zeros, then the gradient. */
void backward(gemm *f, sizes z, float *x, float *p, float *v1, float *v2, float *v3, float *s1, float *s2, float *in,
              float *given, float *d1, float *d2, float *d3, float *g) {
  const parts q = parts_of(z, p), to = parts_of(z, g);
  const int n1 = z.batch * z.c1, n2 = z.batch * z.c2, n3 = z.batch * z.c3;
  memset(d1, 0, 4 * n1), memset(d2, 0, 4 * n2), memset(d3, 0, 4 * n3);
  for (int t = z.time - 1; t >= 0; --t) {
    float *here1 = v1 + (size_t)t * n1, *here2 = v2 + (size_t)t * n2, *here3 = v3 + (size_t)t * n3;
    fire(n1, here1, s1), fire(n2, here2, s2);
    for (int i = 0; i < n3; ++i) d3[i] += given[i];
    add_product(f, z.batch, z.c3, z.c2, d3, s2, to.w3);
    times(f, z.batch, z.c3, z.c2, d3, q.w3, in);
    for (int b = 0; b < z.batch; ++b)
      for (int j = 0; j < z.c3; ++j) {
        const int i = b * z.c3 + j;
        to.beta3[j] += d3[i] * here3[i];
        to.b3[j] += d3[i];
        d3[i] *= q.beta3[j];
      }
    add_product(f, z.batch, z.c2, z.c1, d2, s1, to.w2);
    float *in1 = in + n2;
    times(f, z.batch, z.c2, z.c1, d2, q.w2, in1);
    add_product(f, z.batch, z.c1, z.c0, d1, x + (size_t)t * z.batch * z.c0, to.w1);
    back(z.batch, z.c2, z.k, z.peak, q.beta2, here2, in, d2, to.beta2, to.b2);
    back(z.batch, z.c1, z.k, z.peak, q.beta1, here1, in1, d1, to.beta1, to.b1);
  }
}

void adam(int n, float rate, float step, float *restrict p, const float *restrict g, float *restrict m,
          float *restrict v) {
  const float c1 = 1 / (1 - powf(0.9f, step)), c2 = 1 / (1 - powf(0.999f, step));
  for (int i = 0; i < n; ++i) {
    m[i] = 0.9f * m[i] + 0.1f * g[i];
    v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
    p[i] -= rate * m[i] * c1 / (sqrtf(v[i] * c2) + 1e-8f);
  }
}
"""

ctypes.pythonapi.PyCapsule_GetName.restype = ctypes.c_char_p
ctypes.pythonapi.PyCapsule_GetName.argtypes = [ctypes.py_object]
ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def sgemm() -> int:
    """Address of BLAS's single-precision product."""
    capsule = cython_blas.__pyx_capi__["sgemm"]
    name = ctypes.pythonapi.PyCapsule_GetName(capsule)
    return ctypes.pythonapi.PyCapsule_GetPointer(capsule, name)


class Sizes(ctypes.Structure):
    """As in C."""

    _fields_ = [(name, ctypes.c_int) for name in ("batch", "time", "c0", "c1", "c2", "c3")] + [
        (name, ctypes.c_float) for name in ("steepness", "peak")
    ]


def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        program, made = Path(folder) / "floor.c", Path(folder) / "floor.so"
        program.write_text(SOURCE, encoding="utf-8")
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, str(program), "-o", str(made), "-lm"], check=True)
        return ctypes.CDLL(str(made))


class SpikingFloor:
    """A training step: ``step()`` returns the loss and updates `params`; ``loss_and_gradient()`` only computes.

    Args:
        params: w1 b1 w2 b2 w3 b3 beta1 beta2 beta3 in a row; decays are trained as they are, not through a logit.
        inputs: ``[time, batch, channels]``.
        target: class probabilities ``[batch, classes]``.
        widths: units of the layers, inputs first.
        surrogate: steepness and peak of the arc tangent.
        rate: Adam's.
    """

    def __init__(
        self,
        params: Any,
        inputs: Any,
        target: Any,
        widths: tuple[int, ...],
        surrogate: tuple[float, float],
        rate: float,
    ) -> None:
        time, batch, _ = inputs.shape
        self.params, self.inputs, self.target, self.rate = params, inputs, target, rate
        self.sizes = Sizes(batch, time, *widths, *surrogate)
        state = lambda width, steps=0: np.zeros((time + 1 if steps else 1, batch, width), np.float32)
        self.voltages = [state(width, 1) for width in widths[1:]]
        self.spikes, self.deltas = [state(width) for width in widths[1:3]], [state(width) for width in widths[1:]]
        self.room, self.logits = state(sum(widths)), state(widths[3])[0]
        self.gradient, self.first, self.second = np.zeros((3, params.size), np.float32)
        self.count = 0
        self.library, self.sgemm = _library(), ctypes.c_void_p(sgemm())

    def _call(self, function: Any, *arrays: Any) -> None:
        function(self.sgemm, self.sizes, *(ctypes.c_void_p(array.ctypes.data) for array in arrays))

    def loss_and_gradient(self) -> tuple[float, Any]:
        """Cross-entropy of the summed readout, and the parameters' gradient, which the next call overwrites."""
        common = self.inputs, self.params, *self.voltages, *self.spikes, self.room
        self._call(self.library.forward, *common, self.logits)
        shifted = self.logits - self.logits.max(1, keepdims=True)
        log_likely = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        loss = -(self.target * log_likely).sum(1).mean()
        given = ((np.exp(log_likely) - self.target) / len(self.target)).astype(np.float32)
        self.gradient[:] = 0
        self._call(self.library.backward, *common, given, *self.deltas, self.gradient)
        return float(loss), self.gradient

    def step(self) -> float:
        """One step of Adam."""
        loss, _ = self.loss_and_gradient()
        self.count += 1
        arrays = [ctypes.c_void_p(a.ctypes.data) for a in (self.params, self.gradient, self.first, self.second)]
        self.library.adam(self.params.size, ctypes.c_float(self.rate), ctypes.c_float(self.count), *arrays)
        return loss
