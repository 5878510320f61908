"""Options of methods: the command line's over the backbone's over the method's own."""

from __future__ import annotations

import pytest

from fc_bench.errors import UserError
from fc_bench.generation.plan import MethodRow, resolve_method
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, Setting


def _setting(file, methods):
    backbone = read_backbone(str(file)).model_copy(update={"methods": methods})
    object.__setattr__(backbone, "_file", file)
    return Setting(backbone, Sampler("ddim", 2, 2.0, 64), "cpu", "float32")


def test_a_backbone_s_option_holds_where_the_command_line_gives_none(tiny_backbone):
    setting = _setting(tiny_backbone, {"fastcomposer": {"alpha": 0.9}})
    assert resolve_method("fastcomposer", {}, setting)[2].options["alpha"] == 0.9
    assert resolve_method("fastcomposer", {"alpha": 0.4}, setting)[2].options["alpha"] == 0.4
    assert resolve_method("fastcomposer", {}, _setting(tiny_backbone, {}))[2].options["alpha"] == 0.7


def test_a_label_names_what_differs_from_the_backbone_s_choice(tiny_backbone):
    setting = _setting(tiny_backbone, {"fastcomposer": {"alpha": 0.9}})
    assert resolve_method("fastcomposer", {}, setting)[2].label == "fastcomposer"
    assert resolve_method("fastcomposer", {"alpha": 0.9}, setting)[2].label == "fastcomposer"
    assert resolve_method("fastcomposer", {"alpha": 0.7}, setting)[2].label == "fastcomposer[alpha=0.7]"


def test_an_option_that_is_not_set_is_not_recorded_and_a_label_names_one_that_is_unset(tiny_backbone):
    own, suited = _setting(tiny_backbone, {}), _setting(tiny_backbone, {"dreambooth": {"resolution": 32}})
    plain = resolve_method("dreambooth", {}, own)[2]
    assert not {"resolution", "accumulation", "text_learning_rate", "text_weight_decay"} & plain.options.keys()
    assert resolve_method("dreambooth", {"resolution": 32}, own)[2].label == "dreambooth[resolution=32]"
    assert resolve_method("dreambooth", {}, suited)[2].options["resolution"] == 32
    unset = resolve_method("dreambooth", {"resolution": None}, suited)[2]
    assert unset.label == "dreambooth[resolution=None]"
    assert unset.options == plain.options


def test_an_unknown_option_of_the_backbone_is_named(tiny_backbone):
    with pytest.raises(UserError, match='has no option "alhpa", did you mean "alpha"'):
        resolve_method("fastcomposer", {}, _setting(tiny_backbone, {"fastcomposer": {"alhpa": 1}}))


def test_the_default_checkpoint_is_the_same_row_whether_it_is_named_or_not(tiny_backbone):
    setting = _setting(tiny_backbone, {})
    silent, named = (resolve_method("fastcomposer", given, setting)[2] for given in ({}, {"checkpoint": "random"}))
    assert silent == named
    assert silent.options["checkpoint"] == "random"


def test_two_labels_never_share_a_folder():
    labels = ["m", "m[a=x_]", "m[a=x,]", "m[a=x/]", "m_a=x__"]
    folders = [MethodRow(label, "m", {}, {}).folder for label in labels]
    assert len(set(folders)) == len(labels)
    assert folders[0] == "m"
    assert all(set(folder).isdisjoint("[],/") for folder in folders)
