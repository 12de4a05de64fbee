"""The model card of a bundle: what it is, where it came from, how it was proven and how well it does, in one Markdown page.

Every number is read from what lies in the bundle: manifest, `parity.json`, `evaluation.json`, `benchmark.json`. None is typed
here, and a measurement of another graph or version is not shown: the card says that this one was not measured.
"""

from collections.abc import Iterator
from pathlib import Path

from export.card_measured import benchmark_section, closed_loop_section
from export.contract.facts import Action, Camera, Instruction, State
from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Variant
from export.contract.statistics import Bounds, MeanStd, Statistics
from export.parity import Agreement
from export.proof import Proofs, load_proofs


def text_of(folder: Path) -> str:
    """The page for the bundle in `folder`. Raises ManifestError."""
    manifest, proofs = load_manifest(folder), load_proofs(folder)
    lines = [
        *_facts(manifest),
        *_statistics(manifest.action),
        *_variants(manifest),
        *_parity(manifest, proofs),
        *benchmark_section(folder, manifest),
        *closed_loop_section(folder, manifest),
        *_limits(manifest),
        *_hashes(manifest),
    ]
    return "\n".join(lines)


def _facts(manifest: Manifest) -> Iterator[str]:
    action = manifest.action
    rows = {
        "Family": manifest.family,
        "Weights": f"`{manifest.source.checkpoint}`",
        "Licence": manifest.source.licence,
        "Made again by": f"`{manifest.source.command}`",
        "Robots": ", ".join(manifest.robots),
        "Camera" if len(manifest.cameras) == 1 else "Cameras": "; ".join(map(_camera, manifest.cameras)),
        "Instruction": _words(manifest.instruction),
        "State": _state(manifest.state),
        "Action": f"{action.kind.value} in `{action.frame}`: {_named(action.names, action.units)}",
        "Gripper": action.gripper_polarity.value if action.gripper_polarity else "none",
        "Chunk": f"{action.horizon} step{'s' if action.horizon > 1 else ''} at {action.control_hz:g} Hz",
        "Noise": "none" if manifest.noise is None else f"standard normal, {_shape(manifest.noise.shape)}, an input",
    }
    yield f"# {manifest.policy}, version {manifest.version}"
    yield from ("", "<!-- Written by `vlaapi export`; change export/card.py, not this file. -->", "", manifest.description, "")
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in rows.items())
    yield ""


def _camera(camera: Camera) -> str:
    steps = [f"`{camera.name}` {camera.width}×{camera.height}", camera.resize.value]
    steps += ["optional"] if not camera.is_required else []
    steps += ["turned by 180°"] if camera.rotate_180 else []
    steps += [f"centre {camera.crop_area:g} of the area"] if camera.crop_area else []
    steps += [camera.channels.value.upper()] if camera.channels.value != "rgb" else []
    return ", ".join(steps)


def _words(words: Instruction | None) -> str:
    if words is None:
        return "none: the policy takes no words"
    template = words.template.replace("\n", "\\n")
    case = "lower-cased, " if words.lowercase else ""
    return f"`{template}`, {case}at most {words.max_chars} characters and {words.max_tokens} tokens"


def _state(state: State | None) -> str:
    if state is None:
        return "none"
    return f"{'required' if state.is_required else 'optional'}: {_named(state.names, state.units)}"


def _named(names: tuple[str, ...], units: tuple[str, ...]) -> str:
    return ", ".join(f"{name} ({unit})" for name, unit in zip(names, units, strict=True))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _statistics(action: Action) -> Iterator[str]:
    if not action.statistics:
        return
    yield from (
        "## Action statistics",
        "",
        "What the graph scales its answer back with, by `unnorm_key`; “as it is”: not scaled.",
        "",
    )
    bounds = {key: one for key, one in action.statistics.items() if isinstance(one, Bounds)}
    spreads = {key: one for key, one in action.statistics.items() if isinstance(one, MeanStd)}
    if bounds:
        yield from ("| unnorm_key | scheme | from | to |", "|---|---|---|---|")
        yield from (f"| `{key}` | {one.scheme} | {_pair(one, one.low, one.high)} |" for key, one in bounds.items())
        yield ""
    if spreads:
        yield from ("| unnorm_key | scheme | mean | std |", "|---|---|---|---|")
        yield from (f"| `{key}` | {one.scheme} | {_pair(one, one.mean, one.std)} |" for key, one in spreads.items())
        yield ""


def _pair(one: Statistics, first: tuple[float, ...], second: tuple[float, ...]) -> str:
    is_scaled = one.mask or (True,) * one.length
    return " | ".join(
        ", ".join(f"{value:.4g}" if scaled else "as it is" for value, scaled in zip(values, is_scaled, strict=True))
        for values in (first, second)
    )


def _variants(manifest: Manifest) -> Iterator[str]:
    yield from ("## Variants", "", "| variant | precision | runs on | tokens equal | served |", "|---|---|---|---|---|")
    for one in manifest.variants:
        share = "–" if one.token_agreement is None else f"{one.token_agreement:.2%}"
        yield f"| `{one.name}` | {one.precision} | {_where(one)} | {share} | {'yes' if one.name == manifest.served else ''} |"
    yield ""


def _where(variant: Variant) -> str:
    plan = variant.plan
    if plan is None:
        return f"{variant.runner}, {', '.join(f'`{file}`' for file in variant.files)}"
    return f"{plan.flavour} {plan.version}, {plan.gpu} (compute capability {plan.compute_capability}), {plan.bytes / 1e6:,.0f} MB"


def _parity(manifest: Manifest, proofs: Proofs) -> Iterator[str]:
    yield from ("## Parity", "")
    if not proofs:
        yield from ("Not proven: `parity.json` is missing. Export the policy again.", "")
        return
    examples = max(one.examples for proof in proofs.values() for one in proof)
    yield f"The original network in PyTorch (fp32) against each variant on {examples} golden examples, one at a time, in batches"
    yield "and all at once; the worst of these runs counts."
    yield from ("", "| variant | output | examples | found | needed |", "|---|---|---|---|---|")
    for variant in manifest.variants:
        yield from (f"| `{variant.name}` | {_agreement(one)} |" for one in proofs.get(variant.name, ()))
        if variant.name not in proofs:
            yield f"| `{variant.name}` | – | – | not proven here | – |"
    yield ""


def _agreement(one: Agreement) -> str:
    start = f"`{one.tensor}` | {one.examples}"
    if one.share is not None:
        return f"{start} | {one.share:.2%} equal | {f'{one.needed_share:.0%}' if one.needed_share else 'measured only'}"
    return f"{start} | {one.max_abs_difference:.1e} off | ≤ {one.atol:.0e}"


def _limits(manifest: Manifest) -> Iterator[str]:
    """What follows from the facts; what an evaluation found stands under its own heading."""
    yield from ("## Limits", "")
    robots, rate = ", ".join(manifest.robots), manifest.action.control_hz
    cameras = "camera" if len(manifest.cameras) == 1 else "cameras"
    yield f"- Meant for {robots} at {rate:g} Hz with the {cameras} above; nothing here speaks for another robot, rate or view."
    yield "- Parity says that the served graph answers like the original network. It does not say that the network is right."
    if manifest.tokens is not None:
        yield "- Where an answer holds a token that is no action token, it is flagged; the action of that step means nothing."
    if len(manifest.action.unnorm_keys) > 1:
        yield "- The caller names the `unnorm_key` of the data that its robot resembles; another scales every motion wrongly."
    if any(variant.precision != "fp32" for variant in manifest.variants):
        yield "- Variants of lower precision answer differently where two tokens are nearly as likely; the share is in the table."
    yield ""


def _hashes(manifest: Manifest) -> Iterator[str]:
    for heading, hashes in (("Made from these weights", manifest.source.weights_sha256), ("Files", manifest.source.sha256)):
        if hashes:
            yield from (f"## {heading}", "", "| file | SHA-256 |", "|---|---|")
            yield from (f"| `{name}` | `{digest}` |" for name, digest in hashes.items())
            yield ""
