"""Attention and memory formats for a setting on this machine, and a remark on its number format."""

from __future__ import annotations

from fc_bench.model.kernels import Kernels
from fc_bench.protocols import Setting


def chosen_kernels(setting: Setting) -> Kernels:
    """Attention and memory formats for sampling; the default if no method has fetched the pipeline."""
    from fc_bench.model.kernel_choice import for_sampling

    if setting.backbone.missing_files("pipeline"):
        return Kernels()
    return for_sampling(setting.backbone.path("pipeline"), setting.sampler.resolution, setting.device, setting.dtype)


def number_format_remark(setting: Setting) -> str | None:
    """The remark that this CPU computes large models faster in another number format than the setting's, if it does."""
    from fc_bench.model.kernel_choice import cpu_dtype, is_large

    if setting.device != "cpu" or setting.dtype != "float32" or setting.backbone.missing_files("pipeline"):
        return None
    name, reason = cpu_dtype()
    if name == setting.dtype or not is_large(setting.backbone.path("pipeline"), setting.sampler.resolution):
        return None
    change = f"`dtype: {{cpu: {name}}}`"
    return (
        f"The run takes {setting.dtype}, but {name} suits this CPU: {reason}. To change it, write {change} into the "
        f"backbone's file, or into a new one with `extends: {setting.backbone.name}` if that is built in."
    )
