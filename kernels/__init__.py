"""Fused kernels for inference, each beside its PyTorch twin, and the one place that chooses between them.

    pixel_attention    the ActionModule's attention along each pixel's own history
    button_attention   all tokens against one key per latent frame
    norm_rope          RMSNorm, rotation and cache write of queries, keys and values
    modulate           LayerNorm with scale and shift; gate_add; action_fuse
    int8_linear        a linear whose weight is stored as int8
    product            a linear of few rows and what follows it, where a table of measurements names it
    attention          the big attentions: SDPA, or flash-attn where installed
    text_attention     the zero padding of a prompt as one weighted key
    few_rows           a whole block for a few rows on a CPU, compiled by numba

Training uses the twins, which autograd differentiates; the Triton kernels refuse inputs that require gradients.
"""

from scope_play.kernels.dispatch import Kernels, describe, select, select_int8_linear

__all__ = ["Kernels", "describe", "select", "select_int8_linear"]
