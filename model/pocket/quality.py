"""Held-out quality of the pocket models: all measures on their cards, for people that no model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata, spearmanr
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPModel, CLIPTokenizer

from fc_bench.model import pocket_vocabulary as words
from fc_bench.model.autoencoder import posterior
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Framing
from fc_bench.model.fastcomposer.localization import capture_attention, cross_attention_layers, localization_loss
from fc_bench.model.fastcomposer.pipeline import ComposingPipeline
from fc_bench.model.fastcomposer.prompts import insert_placeholders, parse_prompt
from fc_bench.model.ip_adapter import embed_photographs, side_by_side
from fc_bench.model.matching import greedy_matching
from fc_bench.model.pocket.base_unet import training_noise
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.clip import normalize
from fc_bench.model.pocket.people import (
    EVALUATION_PEOPLE,
    HELD_OUT_RECOGNIZER_PEOPLE,
    Person,
    make_person,
    trait_vector,
)
from fc_bench.model.pocket.render import (
    Picture,
    Scene,
    compose_caption,
    render,
    render_background,
    render_photograph,
    render_seed,
)
from fc_bench.model.pocket.tokenizer import CONTEXT_LENGTH
from fc_bench.model.pocket.vae import reconstruct, to_tensor

DETECTION_THRESHOLD = 0.4
_FIRST_SEED = 50_000_000
_PAIR_CONTEXTS = ("snow", "beach", "desert", "meadow", None, "mountain", "night", "house")


def open_face_pack(folder: Path) -> Any:
    """insightface's FaceAnalysis for a folder of ONNX files and pictures of 128 x 128 pixels, on the CPU."""
    from insightface.app import FaceAnalysis

    pack = FaceAnalysis(name=str(folder), providers=["CPUExecutionProvider"])
    pack.prepare(ctx_id=-1, det_thresh=DETECTION_THRESHOLD, det_size=(SIZE, SIZE))
    return pack


def find_faces(pack: Any, image: NDArray[np.uint8]) -> list[Any]:
    """The faces that insightface finds in an RGB picture, from left to right."""
    return sorted(pack.get(np.ascontiguousarray(image[..., ::-1])), key=lambda face: float(face.bbox[0]))


def _only_face(pack: Any, reference: NDArray[np.uint8]) -> Any:
    """The face in a reference photograph; raises ModelInputError when there is none or more than one."""
    faces = find_faces(pack, reference)
    if len(faces) != 1:
        raise ModelInputError(
            f"{len(faces)} faces were found in a drawn photograph of one person: train the detector for longer"
        )
    return faces[0]


def measure_vae(vae: AutoencoderKL, pictures: int = 96) -> dict[str, float]:
    """Peak signal-to-noise ratio of reconstructions by the autoencoder in dB, for complete pictures and face boxes."""
    rendered = _unseen(pictures)
    images = np.stack([picture.image for picture in rendered])
    error = (images.astype(np.float64) - reconstruct(vae, images, torch.device("cpu"))) ** 2
    inside = np.concatenate(
        [
            error[i, int(max(y0, 0)) : int(y1), int(max(x0, 0)) : int(x1)].reshape(-1)
            for i, picture in enumerate(rendered)
            for x0, y0, x1, y1 in picture.face_boxes
        ]
    )
    return {"pictures": pictures, "psnr_db": _psnr(error.mean()), "psnr_faces_db": _psnr(inside.mean())}


@torch.no_grad()
def measure_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, pictures: int = 200) -> dict[str, float]:
    """Text-to-image retrieval by captions with traits (hits at rank 1 and 5), and accuracy of recognized contexts."""
    rendered = _unseen(pictures)
    rng = np.random.default_rng(3)
    captions = [compose_caption(p.people, p.scene, rng, 4)[0] for p in rendered]
    device = torch.device("cpu")
    image = _unit_features(
        clip.get_image_features(pixel_values=normalize(np.stack([p.image for p in rendered]), device))
    )
    similarity = _text_features(clip, tokenizer, captions) @ image.T
    rank = (similarity > similarity.diag()[:, None]).sum(1)
    contexts = list(words.CONTEXTS)
    prompts = _text_features(clip, tokenizer, [f"a photo of a man {words.CONTEXTS[c]}" for c in contexts])
    placed = [i for i, p in enumerate(rendered) if p.scene.context]
    guesses = (image[placed] @ prompts.T).argmax(1).tolist()
    correct = np.mean([contexts[g] == rendered[i].scene.context for g, i in zip(guesses, placed, strict=True)])
    return {
        "pictures": pictures,
        "retrieval_top1": float((rank == 0).float().mean()),
        "retrieval_top5": float((rank < 5).float().mean()),
        "context_accuracy": float(correct),
    }


@torch.no_grad()
def measure_prompt_consistency(
    base: StableDiffusionPipeline, clip: CLIPModel, tokenizer: CLIPTokenizer, subjects: int, pictures: int
) -> dict[str, float]:
    """CLIP cosine with the prompts, for text-only images and for true pictures of the same scenes.

    The 95% interval is that of the mean difference over the prompts, generated minus true.
    """
    people = [_evaluation_people(subjects, index) for index in range(pictures)]
    scenes = [Scene.draw(np.random.default_rng([23, index])) for index in range(pictures)]
    captions = [compose_caption(group, scene)[0] for group, scene in zip(people, scenes, strict=True)]
    true = [
        render(group, scene, np.random.default_rng([29, index])).image
        for index, (group, scene) in enumerate(zip(people, scenes, strict=True))
    ]
    made: list[NDArray[np.uint8]] = []
    for start in range(0, pictures, 8):
        prompts = captions[start : start + 8]
        generators = [torch.Generator().manual_seed(3000 + start + i) for i in range(len(prompts))]
        result: Any = base(prompts, num_inference_steps=20, guidance_scale=3.0, generator=generators)
        made += [np.asarray(image) for image in result.images]
    text = _text_features(clip, tokenizer, captions)
    cosines = {}
    for name, images in (("generated", made), ("true", true)):
        pixels = normalize(np.stack(images), torch.device("cpu"))
        cosines[name] = (_unit_features(clip.get_image_features(pixel_values=pixels)) * text).sum(1).double().numpy()
    difference = cosines["generated"] - cosines["true"]
    draws = np.random.default_rng(0).choice(difference, (2000, pictures)).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "pictures": pictures,
        "generated": float(cosines["generated"].mean()),
        "true_pictures": float(cosines["true"].mean()),
        "difference": float(difference.mean()),
        "interval_low": float(low),
        "interval_high": float(high),
    }


def measure_detector(pack: Any, pictures: int = 500) -> dict[str, float]:
    """Share of detected faces (box overlap of at least one half), and share of false detections in all detections."""
    found = faces = false = 0
    for picture in _unseen(pictures):
        boxes = [face.bbox for face in find_faces(pack, picture.image)]
        matched = set()
        for truth in picture.face_boxes:
            overlaps = [_overlap(truth, box) if i not in matched else 0.0 for i, box in enumerate(boxes)]
            faces += 1
            if overlaps and max(overlaps) >= 0.5:
                found += 1
                matched.add(int(np.argmax(overlaps)))
        false += len(boxes) - len(matched)
    rng = np.random.default_rng(5)
    contexts = [None, *words.CONTEXTS]
    empty = sum(
        bool(find_faces(pack, render_background(contexts[i % len(contexts)], rng))) for i in range(20 * len(contexts))
    )
    return {
        "faces": faces,
        "recall": found / faces,
        "false_detections": false / max(1, found + false),
        "empty_pictures_with_detection": empty / (20 * len(contexts)),
    }


def measure_recognizer(pack: Any, people: int = 250) -> dict[str, float]:
    """ROC AUC of cosines for identity, in photographs and in any scene, and their Spearman correlation with traits."""
    start = HELD_OUT_RECOGNIZER_PEOPLE.start
    persons = [make_person(start + i) for i in range(people)]
    rng = np.random.default_rng(9)
    photographs = [[render_photograph(person, k).image for k in range(2)] for person in persons]
    scenes = [[render([person], Scene.draw(rng), rng).image for _ in range(2)] for person in persons]
    result: dict[str, float] = {"people": people}
    for name, sets in (("photographs", photographs), ("any_scene", scenes)):
        embeddings, owners = [], []
        for owner, images in enumerate(sets):
            for image in images:
                detected = find_faces(pack, image)
                if detected:
                    embeddings.append(detected[0].normed_embedding)
                    owners.append(owner)
        result[f"faces_{name}"] = len(embeddings)
        cosine = np.stack(embeddings) @ np.stack(embeddings).T
        owner = np.array(owners)
        upper = np.triu_indices(len(owner), 1)
        same, values = (owner[:, None] == owner)[upper], cosine[upper]
        result[f"auc_{name}"] = roc_auc(values[same], values[~same])
        result[f"same_{name}"], result[f"different_{name}"] = float(values[same].mean()), float(values[~same].mean())
        if name == "photographs":
            traits = np.stack([trait_vector(person) for person in persons])
            distance = np.linalg.norm(traits[:, None] - traits[None], axis=-1)[owner][:, owner][upper]
            spearman: Any = spearmanr(values[~same], -distance[~same])
            result["spearman_with_trait_distance"] = float(spearman.statistic)
    return result


def roc_auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the probability that a positive exceeds a negative, with ties counted half."""
    ranks = rankdata(np.concatenate([positive, negative]))
    excess = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(excess / (len(positive) * len(negative)))


@torch.no_grad()
def measure_attention(pipeline: ComposingPipeline, groups: int | Sequence[str], pairs: int = 48) -> dict[str, float]:
    """A subject token's cross-attention on its own person and on the other person, in true pictures of pairs.

    `own` and `other` are shares of the token's attention; `inside_minus_outside` is the mean probability in its own
    person's pixels less that in all others, which the localization loss raises. The pictures show unseen people with
    three noise levels, and means go over heads and the layers of `groups`. A token without attention has shares of 0.
    """
    processors = pipeline.unet.attn_processors
    capture = capture_attention(pipeline.unet, cross_attention_layers(pipeline.unet, groups))
    noise = training_noise()
    own, other, localized = [], [], []
    for index in range(pairs):
        people = _evaluation_people(2, index)
        picture = render(people, Scene(context=_PAIR_CONTEXTS[index % 8]), np.random.default_rng([17, index]))
        prompt = parse_prompt(_caption_with_placeholders(picture.people, picture.scene), pipeline.tokenizer)
        references = [[Image.fromarray(render_photograph(p, 0).image) for p in people]]
        condition = pipeline.fuse_subjects([prompt], pipeline.encode_text([prompt]), references)
        condition = pipeline.family.framed(condition, [Framing.whole(SIZE, SIZE)])
        latents = posterior(pipeline.vae, to_tensor(picture.image[None], torch.device("cpu"))).mean
        generator = torch.Generator().manual_seed(index)
        tokens = prompt.image_token_mask.nonzero()[:, 0][None]
        present = torch.ones_like(tokens, dtype=torch.bool)
        masks = torch.from_numpy(picture.masks.astype(np.float32) / 255)[None]
        for timestep in (200, 500, 800):
            moment: Any = torch.tensor([timestep])
            noisy = noise.add_noise(latents, torch.randn(latents.shape, generator=generator), moment)
            capture.start(tokens)
            pipeline.family.denoise(pipeline.unet, noisy, moment, condition)
            for attention in capture.maps.values():
                side = round(attention.shape[2] ** 0.5)
                mask = F.interpolate(masks, (side, side), mode="bilinear", antialias=True).flatten(2)[0]
                share = attention[0].mean(0).T
                localized.append(-localization_loss({"one": attention}, {side**2: mask[None]}, present).item())
                share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
                on = share @ mask.T
                own.append((on[0, 0] + on[1, 1]).item() / 2)
                other.append((on[0, 1] + on[1, 0]).item() / 2)
    pipeline.unet.set_attn_processor(processors)
    return {
        "pairs": pairs,
        "own": float(np.mean(own)),
        "other": float(np.mean(other)),
        "ratio": float(np.mean(own) / np.mean(other)),
        "inside_minus_outside": float(np.mean(localized)),
    }


@dataclass(frozen=True)
class GeneratedSet:
    """Generated pictures of sets of unseen people, with their references."""

    images: list[NDArray[np.uint8]]
    references: list[list[NDArray[np.uint8]]]


def generate_set(
    pipeline: ComposingPipeline | StableDiffusionPipeline,
    subjects: int,
    count: int,
    alpha: float | None,
    steps: int = 20,
    guidance_scale: float = 3.0,
    adapter_scale: float | None = None,
) -> GeneratedSet:
    """`count` generated photographs of one or two unseen people each, in eight contexts.

    An `alpha` of None generates from the text alone, or with an `adapter_scale` by the pipeline's IP-Adapter.
    """
    images, references = [], []
    together = 8 if adapter_scale is None else 1
    for start in range(0, count, together):
        indices = range(start, min(start + together, count))
        groups = [_evaluation_people(subjects, index) for index in indices]
        scenes = [Scene(context=_PAIR_CONTEXTS[index % 8]) for index in indices]
        rows = [[render_photograph(person, 0).image for person in group] for group in groups]
        generators = [torch.Generator().manual_seed(1000 + index) for index in indices]
        settings = {"num_inference_steps": steps, "guidance_scale": guidance_scale, "generator": generators}
        result: Any
        if alpha is None or not isinstance(pipeline, ComposingPipeline):
            prompts = [compose_caption(g, s)[0] for g, s in zip(groups, scenes, strict=True)]
            if adapter_scale is not None:
                settings |= _adapter_inputs(pipeline, rows[0], adapter_scale)
            result = pipeline(prompts, **settings)
        else:
            prompts = [_caption_with_placeholders(g, s) for g, s in zip(groups, scenes, strict=True)]
            pictures = [[Image.fromarray(image) for image in row] for row in rows]
            result = pipeline(prompts, subject_images=pictures, alpha=alpha, **settings)
        images += [np.asarray(image) for image in result.images]
        references += rows
    return GeneratedSet(images, references)


def _adapter_inputs(pipeline: Any, row: Sequence[NDArray[np.uint8]], scale: float) -> dict[str, Any]:
    """The arguments of a pipeline for the people in photographs, from left to right."""
    pipeline.set_ip_adapter_scale(scale)
    masks = {"ip_adapter_masks": [side_by_side(len(row), SIZE, SIZE)]}
    return {
        "ip_adapter_image_embeds": embed_photographs(pipeline, [Image.fromarray(image) for image in row], True),
        **({"cross_attention_kwargs": masks} if len(row) > 1 else {}),
    }


def measure_telling_apart(pack: Any, generated: GeneratedSet) -> dict[str, float]:
    """How well faces generated of one person each tell whose they are among all references of the set.

    `auc` is the probability that a face resembles its own reference more than it resembles another one, `first` the
    share of faces that resemble no other reference more than their own.
    """
    references = np.stack([_only_face(pack, row[0]).normed_embedding for row in generated.references])
    own, other, first = [], [], []
    for number, image in enumerate(generated.images):
        for face in find_faces(pack, image)[:1]:
            cosine = references @ face.normed_embedding
            rest = np.delete(cosine, number)
            own.append(cosine[number])
            other.append(rest)
            first.append(cosine[number] > rest.max())
    auc = roc_auc(np.array(own), np.concatenate(other))
    return {"people": len(references), "faces_compared": len(own), "auc": auc, "first": float(np.mean(first))}


def measure_colors(pack: Any, generated: GeneratedSet) -> dict[str, float]:
    """Correlation of generated skin and hair colors with the subject's own reference and with the other subject's.

    The recognizer assigns faces to subjects (greedy matching). Pictures with a wrong number of faces are left out, and
    `faces_compared` counts the faces in the others.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {"made": [], "own": [], "other": []}
    for image, references in zip(generated.images, generated.references, strict=True):
        faces = find_faces(pack, image)
        if len(faces) != len(references):
            continue
        own_faces = [_only_face(pack, reference) for reference in references]
        wanted = [_colors(reference, face) for reference, face in zip(references, own_faces, strict=True)]
        similarity = _similarity([f.normed_embedding for f in own_faces], [f.normed_embedding for f in faces])
        for subject, position in greedy_matching(similarity).items():
            rows["made"].append(_colors(image, faces[position]))
            rows["own"].append(wanted[subject])
            rows["other"].append(wanted[len(wanted) - 1 - subject])
    result: dict[str, float] = {"pictures": len(generated.images), "faces_compared": len(rows["made"])}
    if len(rows["made"]) < 3:
        return result
    made, own, other = (np.array(rows[name]) for name in ("made", "own", "other"))
    for name, columns in (("skin", slice(0, 3)), ("hair", slice(3, 6))):
        result[f"{name}_own"] = _correlation(made[:, columns], own[:, columns])
        if len(generated.references[0]) > 1:
            result[f"{name}_other"] = _correlation(made[:, columns], other[:, columns])
    return result


def measure_identity(pack: Any, generated: GeneratedSet, resamples: int = 2000) -> dict[str, float]:
    """Identity by the published protocol (greedy matching, minimum over subjects), with a 95% interval.

    A missing face or a negative similarity counts as 0. `faces_right` is the share of pictures with the correct number
    of faces.
    """
    scores, right = [], []
    for image, references in zip(generated.images, generated.references, strict=True):
        faces = [face.normed_embedding for face in find_faces(pack, image)]
        wanted = [_only_face(pack, reference).normed_embedding for reference in references]
        right.append(len(faces) == len(references))
        scores.append(_greedy_minimum(wanted, faces))
    values = np.array(scores)
    draws = np.random.default_rng(0).choice(values, (resamples, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "pictures": len(values),
        "identity": float(values.mean()),
        "interval_low": float(low),
        "interval_high": float(high),
        "faces_right": float(np.mean(right)),
    }


def real_set(subjects: int, count: int) -> GeneratedSet:
    """True pictures instead of generated ones, as the ceiling of every measure above."""
    images, references = [], []
    for index in range(count):
        people = _evaluation_people(subjects, index)
        scene = Scene(context=_PAIR_CONTEXTS[index % 8])
        images.append(render(people, scene, np.random.default_rng([19, index])).image)
        references.append([render_photograph(person, 0).image for person in people])
    return GeneratedSet(images, references)


def through_vae(vae: AutoencoderKL, generated: GeneratedSet) -> GeneratedSet:
    """The pictures reconstructed by the autoencoder, which bound what the best possible UNet could reach."""
    decoded = reconstruct(vae, np.stack(generated.images), torch.device("cpu"))
    return GeneratedSet(list(decoded), generated.references)


def _evaluation_people(subjects: int, index: int) -> list[Person]:
    first = EVALUATION_PEOPLE.start + 10_000 + 2 * index
    return [make_person(first + i) for i in range(subjects)]


def _unseen(count: int) -> list[Picture]:
    return [render_seed(_FIRST_SEED + i, HELD_OUT_RECOGNIZER_PEOPLE) for i in range(count)]


def _caption_with_placeholders(people: Sequence[Person], scene: Scene) -> str:
    caption, spans = compose_caption(people, scene)
    return insert_placeholders(caption, [span.end for span in spans])


def _text_features(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    encoded = tokenizer(texts, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt")
    return _unit_features(clip.get_text_features(input_ids=encoded.input_ids))


def _unit_features(output: Any) -> torch.Tensor:
    return F.normalize(output.pooler_output, dim=-1)


def _colors(image: NDArray[np.uint8], face: Any) -> NDArray[np.float64]:
    """Skin and hair color of a detected face, [6]: median colors below the eyes and above the forehead."""
    landmarks = np.asarray(face.kps)
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    down = (mouth - eyes) / (np.linalg.norm(mouth - eyes) + 1e-6)
    spacing = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    across = (landmarks[1] - landmarks[0]) / (spacing + 1e-6)
    cheeks = [eyes + down * 0.5 * spacing + across * side * 0.55 * spacing for side in (-1, 1)]
    top = np.array([(face.bbox[0] + face.bbox[2]) / 2, face.bbox[1] + 0.04 * (face.bbox[3] - face.bbox[1])])
    crown = [top + across * side * 0.3 * spacing for side in (-1, 0, 1)]
    return np.concatenate([_median(image, cheeks), _median(image, crown)])


def _median(image: NDArray[np.uint8], centers: Sequence[NDArray[np.float64]], half: int = 2) -> NDArray[np.float64]:
    patches = []
    for x, y in np.round(centers).astype(int):
        x, y = np.clip([x, y], half, SIZE - half - 1)
        patches.append(image[y - half : y + half + 1, x - half : x + half + 1].reshape(-1, 3))
    return np.median(np.concatenate(patches), axis=0)


def _correlation(made: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Pearson's correlation, averaged over the color channels."""
    return float(np.mean([np.corrcoef(made[:, c], wanted[:, c])[0, 1] for c in range(made.shape[1])]))


def _greedy_minimum(wanted: list[NDArray[np.float32]], faces: list[NDArray[np.float32]]) -> float:
    if not faces:
        return 0.0
    similarity = _similarity(wanted, faces)
    scores = np.zeros(len(wanted))
    for row, column in greedy_matching(similarity).items():
        scores[row] = similarity[row, column]
    return float(max(0.0, scores.min()))


def _similarity(wanted: list[NDArray[np.float32]], faces: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Cosines of unit embeddings, [wanted, faces]."""
    return np.array([[float(w @ f) for f in faces] for w in wanted])


def _overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    left, top = np.maximum(first[:2], second[:2])
    right, bottom = np.minimum(first[2:4], second[2:4])
    shared = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
    areas = [float((b[2] - b[0]) * (b[3] - b[1])) for b in (first, second)]
    return shared / (sum(areas) - shared)


def _psnr(mean_square_error: float) -> float:
    return float(10 * np.log10(255**2 / mean_square_error))
