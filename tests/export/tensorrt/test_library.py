"""What is missing, and what a plan can be built for, is said before anything is built."""

import sys
from types import ModuleType

import pytest

from export.python_backend.tensorrt_engine import Gpu
from export.tensorrt.library import EngineError, Flavour, Library, devices, known_capabilities, open_library

pytestmark = pytest.mark.export
H200 = Gpu(name="NVIDIA H200", compute_capability="9.0")


@pytest.mark.parametrize(("flavour", "advice"), [(Flavour.TENSORRT, "Triton image"), (Flavour.RTX, "make tensorrt-rtx")])
def test_a_missing_tensorrt_says_how_to_get_it(flavour: Flavour, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (flavour, f"{flavour}_bindings"):
        monkeypatch.setitem(sys.modules, name, None)  # Python's own way to say: not there
    with pytest.raises(EngineError, match=rf"^{flavour} is not installed here \(.*\): .*{advice}") as refused:
        open_library(flavour)
    assert "\n" not in str(refused.value)


def test_the_gpu_in_the_machine_is_taken_unless_another_is_named(rtx: Library) -> None:
    (own,) = devices(rtx, H200, ())
    assert (own.capability, own.gpu, own.suffix) == ("9.0", H200, "sm90")
    (other, newer) = devices(rtx, H200, ("8.9", "12.0"))
    assert (other.capability, other.gpu, newer.suffix) == ("8.9", None, "sm120")


def test_without_a_gpu_only_named_capabilities_can_be_built_for(rtx: Library) -> None:
    with pytest.raises(EngineError, match=r"no NVIDIA GPU is visible here.*--target rtx --compute-capability"):
        devices(rtx, None, ())
    with pytest.raises(EngineError, match=r"has no compute capability 9\.0; it knows 7\.5, 8\.0, 8\.6, 8\.9, 12\.0"):
        devices(rtx, None, ("9.0",))
    with pytest.raises(EngineError, match="is for --target rtx"):
        devices(Library(trt=rtx.trt, flavour=Flavour.TENSORRT), H200, ("8.9",))


@pytest.mark.parametrize(("version", "is_asked_for"), [("10.16.1.11", True), ("11.1.0.106", False)])
def test_strong_typing_is_asked_for_where_it_is_a_choice(rtx: Library, version: str, is_asked_for: bool) -> None:
    trt = ModuleType("tensorrt")
    trt.__version__ = version  # type: ignore[attr-defined]  # TensorRT 10 and 11 themselves cannot be installed here
    trt.NetworkDefinitionCreationFlag = rtx.trt.NetworkDefinitionCreationFlag  # type: ignore[attr-defined]  # as above
    flags = Library(trt=trt, flavour=Flavour.TENSORRT).network_flags()
    assert flags == (1 << int(rtx.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if is_asked_for else 0)
    assert rtx.network_flags() == 0


def test_the_library_names_its_version_and_its_capabilities(rtx: Library) -> None:
    assert rtx.version == "1.7.1.116"
    assert {"7.5", "8.6", "8.9", "12.0"} <= set(known_capabilities(rtx))
