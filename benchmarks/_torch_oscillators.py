"""What the oscillators' parts cost in PyTorch, eager: rollouts as published and lean, the encoder, the spectral loss.

Arrays come and go as NumPy's, coefficients as the library has them, ``[batch, time, P²]``, row p holding the powers of
v that go with x^p; they are laid out for the loop beforehand. Rollouts have no bounds, and the loss that is
differentiated is half the sum of squares of all that comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Tensor = torch.Tensor
Gradient = tuple[Floats, Floats]  # x [batch, time], and the cotangents of the coefficients


def _runge_kutta(acceleration: Callable[[Tensor, Tensor], Tensor], x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One step of length 1."""
    a1 = acceleration(x, v)
    x2, v2 = x + 0.5 * v, v + 0.5 * a1
    a2 = acceleration(x2, v2)
    x3, v3 = x + 0.5 * v2, v + 0.5 * a2
    a3 = acceleration(x3, v3)
    x4, v4 = x + v3, v + a3
    a4 = acceleration(x4, v4)
    return x + (v + 2 * (v2 + v3) + v4) / 6, v + (a1 + 2 * (a2 + a3) + a4) / 6


def published_rollout(coefficients: Floats, x0: Floats, v0: Floats) -> Callable[[], Gradient]:
    """Powers by pow, a mask, an einsum, and ``w[:, k]`` out of the whole array at every step."""
    batch, time, terms = coefficients.shape
    P = math.isqrt(terms)
    given = torch.from_numpy(coefficients.copy()).reshape(batch, time, P, P)
    omega = (-given[:, :, 1, 0]).sqrt().requires_grad_()
    gamma, w = (-given[:, :, 0, 1]).requires_grad_(), (-given).requires_grad_()
    mask = torch.ones(P, P)
    mask[1, 0] = mask[0, 1] = 0.0
    powers = torch.arange(P)

    def acceleration_at(k: int) -> Callable[[Tensor, Tensor], Tensor]:
        omega_k, gamma_k, w_k = omega[:, k], gamma[:, k], w[:, k]

        def acceleration(x: Tensor, v: Tensor) -> Tensor:
            of_x, of_v = x[:, None] ** powers, v[:, None] ** powers
            kernel = torch.einsum("bp,bk,bpk->b", of_x, of_v, w_k * mask)
            return -(omega_k**2) * x - gamma_k * v - kernel

        return acceleration

    def run() -> Gradient:
        x, v = torch.from_numpy(x0), torch.from_numpy(v0)
        xs, vs = [x], [v]
        for k in range(time - 1):
            x, v = _runge_kutta(acceleration_at(k), x, v)
            xs.append(x)
            vs.append(v)
        all_x, all_v = torch.stack(xs, 1), torch.stack(vs, 1)
        loss = (all_x.square().sum() + all_v.square().sum()) / 2
        by_omega, by_gamma, by_w = torch.autograd.grad(loss, (omega, gamma, w))
        found = -by_w
        found[:, :, 1, 0], found[:, :, 0, 1] = -by_omega / (2 * omega.detach()), -by_gamma
        return all_x.detach().numpy(), found.reshape(coefficients.shape).numpy()

    return run


def lean_rollout(coefficients: Floats, x0: Floats, v0: Floats) -> Callable[[], Gradient]:
    """Steps unbound once, batch last, Horner's scheme in fused operations, over blocks of all powers of v."""
    batch, time, terms = coefficients.shape
    P = math.isqrt(terms)
    laid_out = torch.from_numpy(np.ascontiguousarray(coefficients.transpose(1, 2, 0))).reshape(time, P, P, batch)
    laid_out.requires_grad_()

    def horner(terms: Sequence[Tensor], u: Tensor) -> Tensor:
        value = terms[-1]
        for term in reversed(terms[:-1]):
            value = torch.addcmul(term, value, u)
        return value

    def run() -> Gradient:
        x, v = torch.from_numpy(x0), torch.from_numpy(v0)
        xs, vs = [x], [v]
        for table in laid_out.unbind(0)[:-1]:
            rows = table.unbind(0)
            x, v = _runge_kutta(lambda x, v, rows=rows: horner(horner(rows, x).unbind(0), v), x, v)
            xs.append(x)
            vs.append(v)
        all_x, all_v = torch.stack(xs), torch.stack(vs)
        loss = (all_x.square().sum() + all_v.square().sum()) / 2
        (found,) = torch.autograd.grad(loss, laid_out)
        return all_x.detach().T.numpy(), found.reshape(time, terms, batch).permute(2, 0, 1).numpy()

    return run


def sequential_encoder(
    stacks: Sequence[Sequence[Mapping[str, Floats]]], heads: Sequence[tuple[Floats, Floats]], x: Floats, v: Floats
) -> Callable[[], tuple[Floats, list[list[dict[str, Floats]]]]]:
    """The Mamba encoder, its scan a loop over time; one stack after the other.

    Args:
        stacks: of each group, of each block, parameters by their names in `MambaBlock`.
        heads: weight and bias of each group.
        x: sound ``[batch, time]``.
        v: its change per sample.

    Returns:
        A function that gives the raw drives ``[batch, time, outputs]`` and the gradients of the blocks' parameters.
    """
    tensor = lambda array: torch.from_numpy(np.array(array)).requires_grad_()
    groups = [[{name: tensor(array) for name, array in block.items()} for block in stack] for stack in stacks]
    affine = [tuple(map(tensor, head)) for head in heads]
    sound = torch.from_numpy(np.stack([x, v], axis=-1))
    both = torch.cat([sound.flip(1), sound], dim=1)

    def block(p: Mapping[str, Tensor], r: Tensor) -> Tensor:
        inner, n = p["log_rate"].shape
        normed = r * torch.rsqrt(r.square().mean(-1, keepdim=True) + 1e-5) * p["gain"]
        u, gate = F.linear(normed, p["in_weight"]).chunk(2, dim=-1)
        taps = p["conv_weight"].shape[1]
        padded = F.pad(u.transpose(1, 2), (taps - 1, 0))
        u = F.silu(F.conv1d(padded, p["conv_weight"][:, None], p["conv_bias"], groups=inner).transpose(1, 2))
        selected = F.linear(u, p["selection_weight"])
        step, b, c = selected.split([selected.shape[-1] - 2 * n, n, n], dim=-1)
        delta = F.softplus(F.linear(step, p["step_weight"], p["step_bias"]))
        decay = torch.exp(delta[..., None] * -torch.exp(p["log_rate"]))
        entering = (delta * u)[..., None] * b[:, :, None, :]
        state = torch.zeros_like(decay[:, 0])
        states = []
        for a_t, b_t in zip(decay.unbind(1), entering.unbind(1), strict=True):
            state = torch.addcmul(b_t, a_t, state)
            states.append(state)
        y = (torch.stack(states, 1) * c[:, :, None, :]).sum(-1) + p["skip"] * u
        return r + F.linear(y * F.silu(gate), p["out_weight"])

    def run() -> tuple[Floats, list[list[dict[str, Floats]]]]:
        raw, gradients = [], []
        for stack, (weight, bias) in zip(groups, affine, strict=True):
            r = both
            for parameters in stack:
                r = block(parameters, r)
            out = F.linear(r[:, x.shape[1] :], weight, bias)
            wanted = [tensor for parameters in stack for tensor in parameters.values()]
            found = iter(torch.autograd.grad(out.square().sum() / 2, [*wanted, weight, bias]))
            gradients.append([{name: next(found).numpy() for name in parameters} for parameters in stack])
            raw.append(out.detach())
        return torch.cat(raw, dim=-1).numpy(), gradients

    return run


def spectral_loss(
    generated: Floats, target: Floats, resolutions: Sequence[tuple[int, int]], eps: float, eps_sc: float
) -> Callable[[], tuple[float, Floats]]:
    """Parallel WaveGAN's loss with torch.stft, and its gradient; the target's magnitudes are made beforehand."""
    windows = {n_fft: torch.hann_window(n_fft) for n_fft, _ in resolutions}
    sound = torch.from_numpy(generated.copy()).requires_grad_()

    def magnitude(x: Tensor, n_fft: int, hop: int) -> Tensor:
        return torch.stft(x, n_fft, hop, window=windows[n_fft], pad_mode="reflect", return_complex=True).abs()

    targets = [magnitude(torch.from_numpy(target.copy()), *resolution) for resolution in resolutions]

    def run() -> tuple[float, Floats]:
        loss = torch.zeros(())
        for resolution, theirs in zip(resolutions, targets, strict=True):
            ours = magnitude(sound, *resolution)
            distance = (theirs - ours).square().sum((1, 2)).sqrt() / (theirs.square().sum((1, 2)).sqrt() + eps_sc)
            loss = loss + distance.mean() + (torch.log(theirs + eps) - torch.log(ours + eps)).abs().mean()
        loss = loss / len(resolutions)
        (gradient,) = torch.autograd.grad(loss, sound)
        return float(loss.detach()), gradient.numpy()

    return run
