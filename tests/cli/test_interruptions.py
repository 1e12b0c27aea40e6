"""A full disk and an interrupt: one line, and what was there is there."""

import signal
import time

import pytest
import SimpleITK as sitk

from tests.helpers.networks import smooth_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images."""
    folder = tmp_path_factory.mktemp("interrupted")
    for seed, name in enumerate(("fixed", "moving")):
        image = sitk.GetImageFromArray(smooth_image((40, 48), seed))
        image.SetSpacing((2.0, 2.0))
        sitk.WriteImage(image, str(folder / f"{name}.mha"))
    return folder


@pytest.fixture(scope="module")
def arguments(command, run2d, folder):
    """A registration into a folder that holds the results of an earlier one."""
    arguments = [
        f"--fixed={folder / 'fixed.mha'}",
        f"--moving={folder / 'moving.mha'}",
        f"--model={run2d}",
        f"--out={folder / 'out'}",
    ]
    earlier = command("register", *arguments, "--initial=none")
    assert earlier.status == 0, earlier.err
    return [*arguments, "--initial=center"]


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


# Bytes: too little for the displacement, for the transform, for the report.
@pytest.mark.parametrize("largest", [4_000, 20_000, 50_000])
def test_full_disk_ends_in_one_line_and_keeps_earlier_results(
    command, arguments, folder, largest
):
    before = contents(folder)
    result = command("register", *arguments, largest=largest)
    assert result.status == 2, result
    assert len(result.errors) == 1, result.err
    assert "free some space" in result.errors[0]
    assert contents(folder) == before
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.fixture
def heeded():
    """What a shell starts in the background ignores interrupts, and so would what is
    started here.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_interrupt_keeps_earlier_results_and_leaves_nothing_beside(
    command, arguments, folder, number, status
):
    before = contents(folder)

    def interrupt(process):
        end = time.monotonic() + 120
        # It works once the folder beside the results is there.
        while not list(folder.glob(".out-*")) and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)

    result = command.start("register", *arguments, meanwhile=interrupt)
    assert result.status == status, result
    assert result.errors == ["error: interrupted"]
    assert contents(folder) == before
    assert not list(folder.glob(".out-*"))
