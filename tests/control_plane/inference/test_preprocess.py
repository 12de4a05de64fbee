"""The tensors are exactly those of the shared contract code."""

import io

import numpy as np
import pytest
from PIL import Image

from control_plane.errors import ApiError
from control_plane.inference.contract import Contract
from control_plane.inference.images import baseline_jpeg_pixels
from control_plane.inference.observation import Inquiry, Observation, Prepared
from control_plane.inference.preprocess import Preprocessor, is_quick, prepare
from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.offer import Offer
from control_plane.policies.standing import Standing
from export.contract.preprocess import resize
from export.contract.tokenize import InstructionTokenizer
from tests.control_plane.fakes import ROOT, picture, principal

CATALOGUE = load_catalogue(ROOT / "model_repository", default="tabletop")
OFFER = Offer(catalogue=CATALOGUE, standing=Standing())
MAX_PIXELS = 1_000_000


def observation(encoded: bytes, *, instruction: str = "pick up red cube", state: tuple[float, ...] | None = None) -> Observation:
    asked = Inquiry(image=encoded, images={}, instruction=instruction, state=state)
    return Contract(offer=Offer(catalogue=CATALOGUE, standing=Standing()), default_robot="franka_panda").check(asked, principal())


def tensor(prepared: Prepared, name: str, dtype: type) -> np.ndarray:
    found = next(found for found in prepared.inputs if found.name == name)
    return np.frombuffer(found.data, dtype).reshape(found.shape)


@pytest.mark.parametrize("size", [(128, 128), (224, 224), (640, 480), (30, 500)])
def test_the_picture_is_resized_as_the_exporter_does_it(size: tuple[int, int]) -> None:
    encoded = picture(size=size, form="PNG")
    manifest = CATALOGUE.policies["tabletop"].manifest
    wanted = resize(Image.open(io.BytesIO(encoded)).convert("RGB"), manifest.primary_camera)
    got = tensor(prepare(observation(encoded), MAX_PIXELS), "image", np.uint8)
    assert got.shape == (1, 128, 128, 3)
    assert (got[0] == wanted).all()


def test_the_words_become_the_policys_own_tokens() -> None:
    manifest = CATALOGUE.policies["tabletop"].manifest
    assert manifest.instruction is not None
    wanted = InstructionTokenizer(ROOT / "model_repository" / "tabletop", manifest.instruction).ids("pick up red cube")
    got = tensor(prepare(observation(picture()), MAX_PIXELS), "instruction_ids", np.int64)
    assert (got == wanted).all()
    assert got.any()


def test_a_state_that_was_sent_is_masked_in() -> None:
    prepared = prepare(observation(picture(), state=(0.5,) * 8), MAX_PIXELS)
    assert tensor(prepared, "state", np.float32).tolist() == [[0.5] * 8]
    assert tensor(prepared, "state_mask", np.float32).tolist() == [[1.0]]


def test_a_state_that_was_not_sent_is_masked_out() -> None:
    assert tensor(prepare(observation(picture()), MAX_PIXELS), "state_mask", np.float32).tolist() == [[0.0]]


def test_too_many_words_are_refused_not_cut() -> None:
    with pytest.raises(ApiError) as caught:
        prepare(observation(picture(), instruction="red " * 40), MAX_PIXELS)
    assert (caught.value.kind.code, caught.value.param) == ("invalid_instruction", "instruction")
    assert "tokens" in caught.value.message


async def test_a_refusal_comes_out_of_the_worker_thread() -> None:
    preprocessor = Preprocessor(threads=1, max_pixels=100)
    with pytest.raises(ApiError) as caught:
        await preprocessor.prepare(observation(picture()))
    preprocessor.close()
    assert (caught.value.kind.code, caught.value.param) == ("invalid_image", "image")


def jpeg(size: tuple[int, int], **how: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (40, 80, 120)).save(file, "JPEG", **how)
    return file.getvalue()


@pytest.mark.parametrize(
    ("encoded", "pixels"),
    [
        (jpeg((224, 224)), 224 * 224),
        (jpeg((640, 480)), 640 * 480),
        (jpeg((224, 224), exif=b"Exif\0\0" + b"x" * 500), 224 * 224),
        (jpeg((224, 224), progressive=True), 0),
        (picture(size=(64, 64), form="PNG"), 0),
        (jpeg((224, 224))[:30], 0),
        (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 40 + jpeg((32, 32))[2:], 0),
        (b"\xff\xd8\xff\xe0\x00\x00" * 9, 0),
        (b"\xff\xd8\xff", 0),
        (b"", 0),
    ],
)
def test_only_a_plain_small_jpeg_tells_its_size_from_its_header(encoded: bytes, pixels: int) -> None:
    assert baseline_jpeg_pixels(encoded) == pixels


@pytest.mark.parametrize(("size", "quick"), [((224, 224), True), ((256, 256), True), ((256, 257), False), ((640, 480), False)])
def test_what_is_decoded_on_the_event_loop_is_bounded_in_pixels(size: tuple[int, int], quick: bool) -> None:
    assert is_quick(observation(jpeg(size))) is quick


async def test_a_quick_picture_gives_the_same_tensors_as_a_thread_would() -> None:
    seen = observation(picture(size=(224, 224), form="JPEG"))
    preprocessor = Preprocessor(threads=1, max_pixels=MAX_PIXELS)
    assert is_quick(seen)
    assert (await preprocessor.prepare(seen)).inputs == prepare(seen, MAX_PIXELS).inputs
    preprocessor.close()


async def test_a_second_bigger_frame_hidden_behind_a_small_one_is_refused() -> None:
    small, big = jpeg((64, 64)), jpeg((4000, 250))
    frame = big[big.index(b"\xff\xc0") :][:19]
    at = small.index(b"\xff\xc0") + 19
    preprocessor = Preprocessor(threads=1, max_pixels=MAX_PIXELS)
    with pytest.raises(ApiError) as caught:
        await preprocessor.prepare(observation(small[:at] + frame + small[at:]))
    assert caught.value.kind.code == "invalid_image"
    preprocessor.close()
