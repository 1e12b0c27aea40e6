"""Large programs: prepared ahead, and traced once for all processes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.registration.inference import programs
from regnet_jax.registration.inference.programs import KeptProgram


class Factor(float):
    """A static argument whose class this package has defined."""


Factor.__module__ = "regnet_jax.here"


def test_a_call_uses_the_program_that_was_prepared():
    traced = []

    def scale(values, offset, *, factor):
        traced.append(values.shape)
        return factor * values + offset

    call = KeptProgram(scale, static_argnames=("factor",))
    struct = jax.ShapeDtypeStruct((3,), jnp.float32)
    with ThreadPoolExecutor(1) as pool:
        call.prepare(pool, struct, struct, factor=2.0)
        call.prepare(pool, struct, struct, factor=2.0)
        x, y = np.arange(3, dtype=np.float32), np.ones(3, np.float32)
        np.testing.assert_array_equal(call(x, y, factor=2.0), 2 * x + 1)
    assert traced == [(3,)]
    # Other arguments have programs of their own.
    np.testing.assert_array_equal(call(x, y, factor=3.0), 3 * x + 1)
    np.testing.assert_array_equal(call(x[:2], y[:2], factor=2.0), 2 * x[:2] + 1)
    assert traced == [(3,), (3,), (2,)]


def test_what_fails_ahead_fails_in_the_call():
    def refuse(x):
        raise ValueError("no such network")

    call = KeptProgram(refuse, static_argnames=())
    with ThreadPoolExecutor(1) as pool:
        call.prepare(pool, jax.ShapeDtypeStruct((3,), jnp.float32))
    with pytest.raises(ValueError, match="no such network"):
        call(np.zeros(3, np.float32))


def test_a_program_that_does_not_fit_its_device_is_compiled_once(monkeypatch):
    """As for arguments on another device than the default."""
    lowered = []

    class Elsewhere:
        def compile(self):
            return self

        def __call__(self, *arguments):
            raise ValueError("compiled for another device")

    call = KeptProgram(lambda x: 2 * x, static_argnames=())
    monkeypatch.setattr(
        call, "_lower", lambda *given: lowered.append(given) or Elsewhere()
    )
    x = np.arange(3, dtype=np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(call(x), 2 * x)
    assert len(lowered) == 1


@pytest.mark.parametrize("error", [RuntimeError, jax.errors.JaxRuntimeError])
def test_a_program_that_fails_as_it_runs_is_not_compiled_again(monkeypatch, error):
    """As for want of memory."""
    traced, run = [], []

    class Large:
        def compile(self):
            return self

        def __call__(self, *arguments):
            run.append(arguments)
            raise error("RESOURCE_EXHAUSTED: Out of memory")

    call = KeptProgram(lambda x: traced.append(x), static_argnames=())
    monkeypatch.setattr(call, "_lower", lambda *given: Large())
    with pytest.raises(error, match="Out of memory"):
        call(np.zeros(3, np.float32))
    assert len(run) == 1
    assert not traced


@pytest.mark.parametrize("failure", ["cancelled", "failed"])
def test_a_program_that_could_not_be_prepared_is_chosen_by_jax(monkeypatch, failure):
    call, begun = KeptProgram(lambda x: 2 * x, static_argnames=()), Event()

    def lower(*given):
        raise RuntimeError("no program")

    monkeypatch.setattr(call, "_lower", lower)
    x = np.arange(3, dtype=np.float32)
    pool = ThreadPoolExecutor(1)
    pool.submit(begun.wait)
    call.prepare(pool, x)
    pool.shutdown(wait=False, cancel_futures=failure == "cancelled")
    begun.set()
    for _ in range(2):
        np.testing.assert_array_equal(call(x), 2 * x)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder in which JAX keeps compiled programs."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def kept(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("regnet_jax_traced/*") if path.is_file())


def process(traced: list, *, module: str = "regnet_jax.here", offset: float = 1.0):
    """Make the program as another process would, which has traced nothing."""

    def scale(values, others, *, factor):
        traced.append(values["a"].shape)
        return factor * values["a"] + offset, others[0]

    scale.__module__ = module
    return KeptProgram(scale, static_argnames=("factor",))


@pytest.mark.parametrize("ahead", [False, True])
def test_a_program_is_traced_once_for_all_processes(cache, ahead):
    values = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    others = [np.asarray([True, False])]
    traced = []
    for _ in range(3):
        call = process(traced)
        if ahead:
            with ThreadPoolExecutor(1) as pool:
                call.prepare(pool, values, others, factor=Factor(2.0))
        found, other = call(values, others, factor=Factor(2.0))
        np.testing.assert_array_equal(found, 2 * values["a"] + 1)
        np.testing.assert_array_equal(other, others[0])
    assert traced == [(2, 3)]
    assert len(kept(cache)) == 1
    # Other shapes, structures and static arguments have programs of their own.
    call = process(traced)
    call({"a": values["a"][:1]}, others, factor=Factor(2.0))
    call(values, [others[0], others[0]], factor=Factor(2.0))
    np.testing.assert_array_equal(
        call(values, others, factor=Factor(3.0))[0], 3 * values["a"] + 1
    )
    assert traced == [(2, 3), (1, 3), (2, 3), (2, 3)]
    assert len(kept(cache)) == 4


def test_a_program_is_traced_again_after_a_change_of_the_code(cache, monkeypatch):
    values, others, traced = {"a": np.ones((1, 1), np.float32)}, [np.ones(1)], []
    assert process(traced)(values, others, factor=Factor(1.0))[0] == 2
    monkeypatch.setattr(programs, "_digest_of_code", lambda: "changed")
    changed = process(traced, offset=5.0)
    assert changed(values, others, factor=Factor(1.0))[0] == 6
    assert traced == [(1, 1), (1, 1)]


def test_the_digest_of_the_code_follows_every_module(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_PACKAGE", tmp_path)
    digests = set()
    for name, text in [("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("c/d.py", "2")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        digests.add(programs._digest_of_code.__wrapped__())
    assert len(digests) == 4


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_program_is_traced_again(cache, damage):
    values, others, traced = {"a": np.ones((1, 2), np.float32)}, [np.ones(1)], []
    process(traced)(values, others, factor=Factor(1.0))
    (file,) = kept(cache)
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + b"?" + whole[middle + 1 :],
            "empty": b"",
        }[damage]
    )
    for _ in range(2):
        found, _ = process(traced)(values, others, factor=Factor(1.0))
        np.testing.assert_array_equal(found, [[2, 2]])
    # Once before the damage and once after it.
    assert traced == [(1, 2), (1, 2)]
    assert kept(cache) == [file]


@pytest.mark.parametrize("kind", ["code", "static"])
def test_code_of_others_is_not_kept_as_it_may_change(cache, kind):
    values, others, traced = {"a": np.ones((1, 2), np.float32)}, [np.ones(1)], []
    module = "elsewhere" if kind == "code" else "regnet_jax.here"
    factor = np.float64(1.0) if kind == "static" else Factor(1.0)
    for _ in range(2):
        process(traced, module=module)(values, others, factor=factor)
    assert traced == [(1, 2), (1, 2)]
    assert kept(cache) == []


def test_without_a_folder_for_it_nothing_is_kept(cache):
    values, others, traced = {"a": np.ones((1, 2), np.float32)}, [np.ones(1)], []
    (cache / "regnet_jax_traced").write_text("a file in the place of the folder")
    found, _ = process(traced)(values, others, factor=Factor(1.0))
    np.testing.assert_array_equal(found, [[2, 2]])
    jax.config.update("jax_compilation_cache_dir", None)
    process(traced)(values, others, factor=Factor(1.0))
    assert traced == [(1, 2), (1, 2)]
    assert [path.name for path in cache.iterdir() if "cache" not in path.name] == [
        "regnet_jax_traced"
    ]
