"""Prediction: decoding, flips, ensembles, tiles, native space, folders with bad files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from small_networks import BINARY, THREE, Brightness, Smoothing, described, save_run

import lunet
from lunet.cli import main
from lunet.data.io.images import is_picture, read_image, read_label, read_raw
from lunet.data.io.itk import write_itk
from lunet.data.io.masks import mask_suffix
from lunet.data.io.write import write_nifti
from lunet.errors import ConfigError, DataError
from lunet.inference.decode import decode, largest_components
from lunet.inference.forward import plan_forward, predict_probabilities
from lunet.inference.predict import predict_native
from lunet.inference.predict_files import find_inputs, predict_scans
from lunet.inference.segment import segment
from lunet.inference.settings import PredictSettings
from lunet.models.live_memory import forward_bytes
from lunet.task import Task

RANDOM = np.random.default_rng(0)
BRATS = Task(
    channels=("MRI",),
    labels={"necrosis": 1, "oedema": 2, "enhancing": 4},
    regions={"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)},
)


# ---------------------------------------------------------------- decoding


def test_binary_threshold() -> None:
    probabilities = np.array([[0.2, 0.5, 0.51, 0.9]], np.float32)
    assert decode(probabilities, BINARY).tolist() == [0, 0, 1, 1]
    assert decode(probabilities, BINARY, threshold=0.6).tolist() == [0, 0, 0, 1]
    assert decode(probabilities, BINARY, threshold=0.1).tolist() == [1, 1, 1, 1]


def test_softmax_takes_the_largest_and_writes_the_indices_of_the_task() -> None:
    task = Task(channels=("CT",), labels={"liver": 3, "spleen": 7})
    probabilities = np.array([[0.4, 0.2, 0.1], [0.3, 0.5, 0.1], [0.3, 0.3, 0.8]], np.float32)
    assert decode(probabilities, task).tolist() == [0, 3, 7]


def test_regions_are_recomposed() -> None:
    """Each legal set of thresholded regions is its label; an illegal one the most likely label."""
    on, off = 0.9, 0.1
    columns = {
        (off, off, off): 0,
        (on, off, off): 2,
        (on, on, off): 1,
        (on, on, on): 4,
        (0.45, off, 0.97): 4,  # enhancing is nearly sure, whole not quite: 4 is likelier than 0
        (0.3, 0.4, 0.55): 0,
    }
    probabilities = np.array(list(columns), np.float32).T
    probabilities[1, 4] = 0.6
    assert decode(probabilities, BRATS).tolist() == list(columns.values())


def test_largest_component_of_each_label() -> None:
    mask = np.zeros((12, 5, 5), np.uint8)
    mask[0:3], mask[5], mask[7:9, 0], mask[11, 4, 4] = 1, 1, 2, 2
    kept = largest_components(mask)
    assert (kept[0:3] == 1).all()
    assert (kept[5] == 0).all()
    assert (kept[7:9, 0] == 2).all()
    assert kept[11, 4, 4] == 0
    assert largest_components(np.zeros((2, 2), np.uint8)).sum() == 0


# ---------------------------------------------------------------- forward


def probabilities_of(models: list, image: np.ndarray, task: Task, **chosen: object) -> np.ndarray:
    out = np.zeros((task.out_channels, *image.shape[1:]), np.float32)
    predict_probabilities(models, image, out, task=task, settings=PredictSettings(**chosen))
    return out


def test_flips_are_averaged_over_all_subsets() -> None:
    class Leftmost(torch.nn.Module):
        """Probability 1 at the first voxel of axes x and y, 1/2 elsewhere."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros_like(x)
            logits[:, :, 0, 0] = 100
            return logits

    image = RANDOM.random((1, 4, 5, 3), np.float32)
    plain = probabilities_of([Leftmost()], image, BINARY)
    flipped = probabilities_of([Leftmost()], image, BINARY, flip_axes=(0, 1))
    assert plain[0, 0, 0, 0] == 1
    assert plain[0, 3, 4, 0] == 0.5
    corners = flipped[0][np.ix_([0, 3], [0, 4])]
    np.testing.assert_allclose(corners, (1 + 3 * 0.5) / 4)
    np.testing.assert_allclose(flipped[0, 1, 1], 0.5)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    image = RANDOM.random((1, 6, 6, 6), np.float32)
    models = [Brightness(t).eval() for t in (0.2, 0.5, 0.9)]
    parts = [probabilities_of([m], image, BINARY) for m in models]
    np.testing.assert_allclose(
        probabilities_of(models, image, BINARY), np.mean(parts, axis=0), atol=1e-6
    )


def test_tiles_equal_the_whole_up_to_their_seams() -> None:
    image = RANDOM.random((1, 40, 33, 29), np.float32)
    whole = probabilities_of([Smoothing()], image, BINARY)
    tiled = probabilities_of([Smoothing()], image, BINARY, patch=(24, 24, 24), overlap=0.5)
    assert np.abs(tiled - whole).max() < 0.03
    assert np.abs(tiled - whole).mean() < 0.002
    once = probabilities_of([Smoothing()], image, BINARY, patch=(40, 33, 29))
    np.testing.assert_allclose(once, whole, atol=1e-6)


def test_whole_volume_only_where_the_estimate_fits() -> None:
    network = torch.nn.Conv3d(1, 8, 3, padding=1)
    task = Task(channels=("CT",), labels={str(i): i for i in range(1, 8)})
    voxels = 64**3
    assert forward_bytes(network, (1, 1, 64, 64, 64)) == 8 * 4 * voxels
    roomy = PredictSettings(memory_gb=0.1)
    tight = PredictSettings(memory_gb=0.01)
    shape = (1, 64, 64, 64)
    assert plan_forward([network], shape, task=task, settings=roomy).patch is None
    tile = plan_forward([network], shape, task=task, settings=tight).patch
    assert tile == (32, 32, 32)
    # a volume that would need 11 GB is planned, not tried
    large = plan_forward([network], (1, 512, 512, 600), task=task, settings=roomy).patch
    assert large is not None
    assert 1.5 * forward_bytes(network, (1, 1, *large)) <= 0.1 * 2**30


def test_a_2d_network_takes_a_volume_slice_by_slice() -> None:
    task = Task(channels=("CT",), labels={"bright": 1}, dimensions=2)
    image = RANDOM.random((1, 12, 10, 11), np.float32)
    out = probabilities_of([Brightness(0.5)], image, task)
    np.testing.assert_allclose(out[0], 1 / (1 + np.exp(-20 * (image[0] - 0.5))), atol=1e-5)
    tiled = probabilities_of([Brightness(0.5)], image, task, patch=(8, 8))
    np.testing.assert_allclose(tiled, out, atol=1e-5)


@pytest.mark.parametrize("chosen", [{"flip_axes": (3,)}, {"patch": (8, 8)}, {"patch": (0, 8, 8)}])
def test_impossible_settings_are_refused(chosen: dict) -> None:
    with pytest.raises(ConfigError, match=r"predict\."):
        probabilities_of([Brightness(0.5)], np.zeros((1, 4, 4, 4), np.float32), BINARY, **chosen)


def test_channels_are_checked() -> None:
    with pytest.raises(DataError, match="channel"):
        probabilities_of([Brightness(0.5)], np.zeros((2, 4, 4, 4), np.float32), BINARY)


# ---------------------------------------------------------------- native space

OBLIQUE = np.array([[0, 0.9, 0.1, 5], [-1.2, 0, 0, 7], [0, 0.1, -2.0, 9], [0, 0, 0, 1]], float)


def test_masks_come_back_in_native_space_and_orientation() -> None:
    """A network that thresholds brightness must mark exactly the bright voxels of the raw array."""
    image = RANDOM.random((14, 9, 11)).astype(np.float32)
    model = described(Brightness(0.5), BINARY)
    mask = lunet.predict(model, image, affine=OBLIQUE)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, image > 0.5)
    # a size pads; what is larger than the training's volumes is segmented whole
    sized = described(Brightness(0.5), BINARY, size=[6, 20, 6])
    np.testing.assert_array_equal(lunet.predict(sized, image, affine=OBLIQUE), mask)


def test_resampled_probabilities_follow_the_image() -> None:
    x = np.indices((20, 24, 16)).astype(np.float32)
    image = np.exp(-sum((a - c) ** 2 for a, c in zip(x, (10, 12, 8), strict=True)) / 60)
    model = described(Brightness(0.5), BINARY, spacing=[1.5, 1.5, 1.5])
    mask = lunet.predict(model, image, spacing=(1, 1, 1))
    truth = image > 0.5
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.93


def test_argument_forms_of_predict() -> None:
    image = RANDOM.random((1, 5, 6, 7), np.float32)
    model = described(Brightness(0.5), BINARY)
    np.testing.assert_array_equal(lunet.predict([model, model], image), image[0] > 0.5)
    with pytest.raises(DataError, match="both spacing and affine"):
        lunet.predict(model, image, spacing=(1, 1, 1), affine=np.eye(4))
    with pytest.raises(DataError, match="no description"):
        lunet.predict(Brightness(0.5), image)
    with pytest.raises(DataError, match="ensemble"):
        lunet.predict([model, described(Brightness(0.1, 0.5, 0.9), THREE)], image)


def test_largest_component_and_threshold_reach_the_mask() -> None:
    image = np.zeros((1, 20, 8, 8), np.float32)
    image[0, 2:8], image[0, 15] = 0.6, 0.6
    model = described(Brightness(0.5), BINARY)
    kept, *_ = predict_native(
        [model], lunet_scan(image), settings=PredictSettings(largest_component=True)
    )
    assert kept[2:8].all()
    assert not kept[15].any()
    none, *_ = predict_native([model], lunet_scan(image), settings=PredictSettings(threshold=0.95))
    assert not none.any()


@pytest.mark.parametrize("task", [BINARY, THREE])
@pytest.mark.parametrize("normalise", ["zscore", "zscore_nonzero", "minmax"])
def test_a_blank_image_has_an_empty_mask(task: Task, normalise: str) -> None:
    """Nothing can be seen in it: a warning, whatever the network would say of zeros."""
    thresholds = [-1.0 - channel for channel in range(task.out_channels)]
    model = described(Brightness(*thresholds), task, normalise=normalise)
    assert lunet.predict(model, RANDOM.random((5, 6, 7))).any()
    for value in (0, -1000):
        if value and normalise == "zscore_nonzero":
            continue
        image = np.full((1, 5, 6, 7), value, np.float32)
        with pytest.warns(UserWarning, match="all voxels have one value"):
            assert not lunet.predict(model, image, affine=OBLIQUE).any()
    with pytest.warns(UserWarning, match="mask is empty"):
        mask, channels, _ = predict_native([model], lunet_scan(image), settings=PredictSettings())
    assert mask.shape == (5, 6, 7)
    np.testing.assert_array_equal(decode(channels, task), mask)


def test_a_blank_channel_among_others_is_an_error() -> None:
    task = Task(channels=("T1", "T2"), labels={"bright": 1})
    model = described(Brightness(0.5), task, normalise="zscore")
    image = np.stack([RANDOM.random((5, 6, 7)), np.zeros((5, 6, 7))])
    with pytest.raises(DataError, match="channel 1: all voxels have one value"):
        lunet.predict(model, image)


def test_a_black_slice_among_pictures_does_not_fail(tmp_path: Path) -> None:
    task = Task(channels=("grey",), labels={"bright": 1}, dimensions=2)
    model = described(Brightness(0.5), task, normalise="zscore")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "black.png")
    lines: list[str] = []
    inputs = find_inputs([str(tmp_path)], channels=1)
    out = tmp_path / "out"
    chosen = {"with_probabilities": True, "with_overlay": True, "log": lines.append}
    assert not predict_scans([model], inputs, out, settings=PredictSettings(), **chosen)
    assert lines[0].startswith("WARNING black (1/1)")
    assert "mask is empty" in lines[0]
    with Image.open(out / "black.png") as mask:
        assert mask.size == (30, 20)
        assert not np.asarray(mask).any()


def lunet_scan(array: np.ndarray):
    from lunet.data.io.images import Scan

    return Scan(array, np.eye(4))


def test_large_maps_lie_in_a_scratch_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from lunet.data.preprocess import prepare_image
    from lunet.data.settings import PreprocessSettings

    image = RANDOM.random((1, 16, 12, 10), np.float32)
    prepared, geometry = prepare_image(
        lunet_scan(image), PreprocessSettings(clip=None, normalise="none")
    )
    monkeypatch.setattr("lunet.inference.segment._IN_MEMORY", 100)
    model = described(Brightness(0.5), BINARY)
    mask, channels = segment([model], prepared, geometry, task=BINARY, settings=PredictSettings())
    assert isinstance(channels.prepared, np.memmap)
    np.testing.assert_array_equal(mask, image[0] > 0.5)
    assert [channels[0].shape, len(channels)] == [(16, 12, 10), 1]


# ---------------------------------------------------------------- files and folders


def test_masks_are_reproducible_bytes(tmp_path: Path) -> None:
    mask = (RANDOM.random((9, 8, 7)) > 0.5).astype(np.uint8)
    write_nifti(tmp_path / "a.nii.gz", mask, OBLIQUE)
    write_nifti(tmp_path / "b.nii.gz", mask, OBLIQUE)
    sums = {hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    assert len(sums) == 1
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), mask)


def save_image(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), path)
    return path


def forms_of(folder: Path, image: nib.Nifti1Image) -> None:
    """One scan with its axes turned, in other formats, byte orders, dtypes and numbers of axes."""
    folder.mkdir()
    array = np.asarray(image.dataobj)
    now = io_orientation(image.affine)
    for codes in ("RAS", "LPI", "PSR", "SAL"):
        turn = ornt_transform(now, axcodes2ornt(tuple(codes)))
        nib.save(image.as_reoriented(turn), folder / f"{codes}.nii.gz")
    nib.save(nib.Nifti1Image(array[..., None], image.affine), folder / "four axes.nii")
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(array.astype(">i2"), image.affine, header), folder / "big.v2.nii")
    nib.save(nib.Nifti1Image(array.astype(float), image.affine), folder / "float64.NII.GZ")
    only = nib.Nifti1Image(array, image.affine)
    only.set_qform(image.affine, 1)
    only.set_sform(None, 0)
    nib.save(only, folder / "qform.nii.gz")
    read = sitk.ReadImage(str(folder / "RAS.nii.gz"))
    for name, form in (
        ("a.mha", read),
        ("b.nrrd", sitk.Flip(sitk.PermuteAxes(read, [2, 0, 1]), [True, False, True])),
    ):
        for key in form.GetMetaDataKeys():
            form.EraseMetaData(key)
        sitk.WriteImage(form, str(folder / name))


@pytest.mark.parametrize("spacing", ["keep", [1.3, 1.0, 2.0]])
def test_one_scan_in_many_forms_has_one_mask(tmp_path: Path, spacing: object) -> None:
    blocks = np.kron(RANDOM.normal(0, 300, (7, 6, 5)), np.ones((2, 3, 2))).astype(np.int16)
    affine = np.diag([0.9, 1.1, 2.5, 1.0])
    affine[:3, 3] = (-20, 7, 100)
    forms_of(tmp_path / "in", nib.Nifti1Image(blocks, affine))
    model = described(Brightness(0.1), BINARY, normalise="zscore", spacing=spacing)
    inputs = find_inputs([str(tmp_path / "in")], channels=1)
    out = tmp_path / "out"
    assert not predict_scans([model], inputs, out, settings=PredictSettings(), log=lambda _: None)
    assert len([*out.glob("[!.]*")]) == 10
    wanted = nib.as_closest_canonical(nib.load(out / "RAS.nii.gz"))
    assert 0.2 < np.asarray(wanted.dataobj).mean() < 0.8
    for item in inputs:
        path = out / f"{item.name}{mask_suffix(item.files[0])}"
        mask = nib.Nifti1Image(*read_label(path))
        scan = read_image(item.files)
        assert mask.shape == scan.array.shape[1:]
        assert read_raw(path)[0].dtype == np.uint8
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
        if ".nii" in path.name:
            np.testing.assert_allclose(nib.load(path).get_qform(), scan.affine, atol=1e-4)
        turned = nib.as_closest_canonical(mask)
        np.testing.assert_array_equal(np.asarray(turned.dataobj), np.asarray(wanted.dataobj))


def test_a_slice_in_a_file_of_volumes_keeps_its_axes(tmp_path: Path) -> None:
    slice_ = RANDOM.random((9, 12)).astype(np.float32)
    save_image(tmp_path / "two.nii.gz", slice_)
    save_image(tmp_path / "three.nii.gz", slice_[..., None])
    model = described(Brightness(0.5), BINARY)
    inputs = find_inputs([str(tmp_path)], channels=1)
    chosen = {"settings": PredictSettings(), "with_overlay": True, "log": lambda _: None}
    assert not predict_scans([model], inputs, tmp_path / "out", **chosen)
    for name, shape in (("two", (9, 12)), ("three", (9, 12, 1))):
        mask = np.asarray(nib.load(tmp_path / "out" / f"{name}.nii.gz").dataobj)
        np.testing.assert_array_equal(mask, (slice_ > 0.5).reshape(shape))


def test_a_bad_file_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = save_image(folder / "good.nii.gz", RANDOM.random((8, 9, 10)))
    (folder / "torn.nii.gz").write_bytes(good.read_bytes()[:300])
    nan = RANDOM.random((8, 9, 10))
    nan[0, 0, 0] = np.nan
    save_image(folder / "nan.nii", nan)
    (folder / "._good.nii.gz").write_bytes(b"junk of another system")
    lines: list[str] = []
    failures = predict_scans(
        [described(Brightness(0.5), BINARY)],
        find_inputs([str(folder)], channels=1),
        tmp_path / "out",
        settings=PredictSettings(),
        with_probabilities=True,
        log=lines.append,
    )
    assert len(failures) == 2
    names = sorted(p.name for p in (tmp_path / "out").glob("[!.]*"))
    assert names == ["good.nii.gz", "probabilities"]
    assert sum(line.startswith("FAILED") for line in lines) == 2
    probabilities = nib.load(tmp_path / "out" / "probabilities" / "good.nii.gz")
    assert probabilities.shape == (8, 9, 10, 1)
    np.testing.assert_allclose(probabilities.affine, OBLIQUE, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii.gz", ".png"])
def test_masks_are_evaluated_beside_their_probabilities(suffix: str, tmp_path: Path) -> None:
    shape = (8, 9, 10) if suffix == ".nii.gz" else (20, 30)
    for name in ("a", "a_probabilities"):
        path = tmp_path / "scans" / f"{name}{suffix}"
        path.parent.mkdir(exist_ok=True)
        values = RANDOM.random(shape)
        if suffix == ".png":
            Image.fromarray((255 * values).astype(np.uint8)).save(path)
        else:
            save_image(path, values)
    task = Task(channels=("grey",), labels={"bright": 1}, dimensions=len(shape))
    model = described(Brightness(0.5), task)
    chosen = {"settings": PredictSettings(), "with_probabilities": True, "with_overlay": True}
    inputs = find_inputs([str(tmp_path / "scans")], channels=1)
    for out in ("truth", "out"):
        assert not predict_scans([model], inputs, tmp_path / out, **chosen)
    table = tmp_path / "metrics.csv"
    folders = ["--reference", str(tmp_path / "truth"), "--prediction", str(tmp_path / "out")]
    assert main(["evaluate", *folders, "--labels", "bright=1", "--out", str(table)]) == 0
    rows = pd.read_csv(table)
    assert rows["case"].tolist() == ["a", "a_probabilities"]
    assert (rows["dice"] == 1).all()


def test_a_scan_that_does_not_fit_the_memory_is_reported_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    class Hungry(Brightness):
        """Asks for more memory than there is where a scan is long."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.shape[3] < 9 else torch.empty(2**56)

    paths = [save_image(tmp_path / f"{n}.nii.gz", RANDOM.random((6, n, 5))) for n in (8, 9)]
    model = described(Hungry(0.5), BINARY, orientation="keep")
    model.twin = described(Brightness(0.5), BINARY)
    lines: list[str] = []
    inputs = find_inputs([str(path) for path in reversed(paths)], channels=1)
    failures = predict_scans(
        [model], inputs, tmp_path / "out", settings=PredictSettings(), log=lines.append
    )
    assert len(failures) == 1
    assert "9.nii.gz: out of memory" in failures[0]
    assert "--memory-gb" in failures[0]
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["8.nii.gz"]


def test_inputs_of_several_channels(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        save_image(tmp_path / f"{name}.nii.gz", RANDOM.random((4, 4, 4)))
    found = find_inputs([str(tmp_path)], channels=2)
    assert {item.name: len(item.files) for item in found} == {"a": 2, "b": 2}
    joined = find_inputs([f"{tmp_path}/a_0000.nii.gz,{tmp_path}/b_0001.nii.gz"], channels=2)
    assert [path.name for path in joined[0].files] == ["a_0000.nii.gz", "b_0001.nii.gz"]
    with pytest.raises(DataError, match="names must differ"):
        find_inputs([str(tmp_path / "a_0000.nii.gz")] * 2, channels=1)
    (tmp_path / "upper").mkdir()
    save_image(tmp_path / "upper" / "A_0000.nii.gz", RANDOM.random((4, 4, 4)))
    with pytest.raises(DataError, match="names must differ"):
        find_inputs([str(tmp_path), str(tmp_path / "upper")], channels=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no image"):
        find_inputs([str(empty)], channels=1)


def test_the_command_segments_pictures_and_volumes(tmp_path: Path) -> None:
    task = Task(channels=("grey",), labels={"bright": 1}, dimensions=2)
    save_run(tmp_path / "run", task)
    picture = (255 * RANDOM.random((20, 30))).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "p.png")
    volume = save_image(tmp_path / "v.nii.gz", RANDOM.random((9, 12, 5)))
    words = ["predict", "--weights", f"{tmp_path}/run", f"{tmp_path}/p.png", str(volume)]
    assert main([*words, "--out", f"{tmp_path}/out"]) == 0
    with Image.open(tmp_path / "out" / "p.png") as mask:
        assert mask.size == (30, 20)
        assert set(np.unique(np.asarray(mask))) <= {0, 1}
    assert nib.load(tmp_path / "out" / "v.nii.gz").shape == (9, 12, 5)


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".nrrd", ".mha", ".nii"])
def test_a_mask_has_the_format_and_grid_of_its_image(tmp_path: Path, suffix: str) -> None:
    save_run(tmp_path / "run", Task(channels=("grey",), labels={"bright": 1}, dimensions=2))
    image = tmp_path / f"scan{suffix}"
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 9], [0, 0, 0, 1]])
    if is_picture(image):
        Image.fromarray((255 * RANDOM.random((20, 30))).astype(np.uint8)).save(image)
    elif suffix == ".nii":
        nib.save(nib.Nifti1Image(RANDOM.random((9, 12, 5)).astype(np.float32), affine), image)
    else:
        write_itk(image, RANDOM.random((9, 12, 5)).astype(np.float32), affine)
    words = ["predict", "--weights", f"{tmp_path}/run", str(image), "--out", f"{tmp_path}/out"]
    assert main(words) == 0
    (written,) = (tmp_path / "out").glob("scan*")
    assert written.name == image.name
    mask, grid = read_label(written)
    scan = read_image([image])
    assert mask.shape == scan.array.shape[1:]
    np.testing.assert_allclose(grid, scan.affine, atol=1e-6)
    if not is_picture(image):
        np.testing.assert_allclose(grid, affine, atol=1e-6)


def test_the_command_tells_failures_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tmp_path / "run")
    save_run(tmp_path / "run2", seed=1)
    good = save_image(tmp_path / "good.nii.gz", RANDOM.random((8, 8, 8)))
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not an image")
    words = ["predict", "--weights", f"{tmp_path}/run", f"{tmp_path}/run2", str(bad), str(good)]
    assert main([*words, "--out", f"{tmp_path}/out"]) == 1
    assert (tmp_path / "out" / "good.nii.gz").exists()
    assert "1 of 2 image(s) failed" in capsys.readouterr().err
    missing = ["predict", "--weights", f"{tmp_path}/none", str(good), "--out", f"{tmp_path}/o"]
    assert main(missing) == 2
    assert "none: does not exist" in capsys.readouterr().err
    words = ["predict", "--weights", f"{tmp_path}/run", f"{tmp_path}/scans"]
    assert main([*words, "--out", f"{tmp_path}/o"]) == 2
    assert "scans: does not exist" in capsys.readouterr().err


def test_the_seeds_of_a_fold_are_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        save_run(tmp_path / "fold-0" / f"seed-{seed}", seed=seed)
    scan = str(save_image(tmp_path / "scan.nii.gz", RANDOM.random((8, 8, 8))))
    fold, seeds = str(tmp_path / "fold-0"), [f"{tmp_path}/fold-0/seed-{seed}" for seed in (0, 1)]
    for out, weights in (("one", [fold]), ("two", seeds)):
        words = ["predict", "--weights", *weights, scan, "--out", str(tmp_path / out)]
        assert main([*words, "--probabilities"]) == 0
    assert f"averages 2 networks: {seeds[0]}, {seeds[1]}" in capsys.readouterr().err
    name = "probabilities/scan.nii.gz"
    one, two = (nib.load(tmp_path / out / name).get_fdata() for out in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_a_picture_for_a_network_of_volumes_is_that_file_s_fault(tmp_path: Path) -> None:
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10)).save(tmp_path / "a.png")
    model = described(Brightness(0.5), BINARY, size=[8, 8, 8])
    with pytest.raises(DataError, match="a picture"):
        lunet.predict(model, tmp_path / "a.png")
