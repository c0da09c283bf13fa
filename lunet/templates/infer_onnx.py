"""Segments a scan with model.onnx and plan.json of this folder, as `lunet predict` does.

    pip install numpy scipy nibabel onnxruntime pillow
    python infer_onnx.py scan.nii.gz mask.nii.gz

It reads NIfTI files, and pictures (PNG, TIFF, BMP, JPEG), whose mask is a PNG or TIFF. A scan of
several channels has one file with all of them, or a file per channel before the mask's.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime
from nibabel import orientations
from PIL import Image
from scipy import ndimage

HERE = Path(__file__).resolve().parent
PICTURES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
PLAN = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))


def read(files):
    """Values (channel, x, y, z), affine and axes of a mask; pictures: (channel, x, y) and None."""
    if all(str(file).lower().endswith(PICTURES) for file in files):
        values = np.concatenate([read_picture(file) for file in files]).astype(np.float32)
        return values, None, values.shape[1:]
    if not all(str(file).lower().endswith((".nii", ".nii.gz")) for file in files):
        sys.exit(f"error: {files[0]}: NIfTI files or pictures ({' '.join(PICTURES)}) are expected")
    scans = [nib.load(file) for file in files]
    arrays = [scan.get_fdata().astype(np.float32) for scan in scans]
    volumes = [np.atleast_3d(a)[..., None] if a.ndim < 4 else a for a in arrays]
    values = np.moveaxis(np.concatenate(volumes, 3), 3, 0)
    return values, scans[0].affine, arrays[0].shape[:3]


def read_picture(file):
    """Values (channel, x, y), x to the right and y down; grey where all colours are equal."""
    with Image.open(file) as opened:
        kept = opened.mode in ("1", "L", "LA", "RGB", "RGBA", "I", "F") or "I;16" in opened.mode
        values = np.atleast_3d(np.asarray(opened if kept else opened.convert("RGB")))
    colours = values[..., :3] if values.shape[2] in (3, 4) else values[..., :1]
    is_grey = (colours == colours[..., :1]).all()
    return (colours[..., :1] if is_grey else colours).transpose(2, 1, 0)


def write(file, mask, affine):
    """The mask as NIfTI, or as the picture that its suffix says."""
    if affine is not None:
        nib.save(nib.Nifti1Image(mask, affine), file)
    elif str(file).lower().endswith((".jpg", ".jpeg")):
        sys.exit(f"error: {file}: JPEG changes labels, so PNG or TIFF is expected")
    else:
        Image.fromarray(np.ascontiguousarray(mask.T)).save(file)


def resample(volume, factor, shape, order):
    """Onto `shape` about the same centre, `factor` old voxels per new one; smoothed if coarser."""
    sigma = np.sqrt(np.maximum(np.square(factor) - 1, 0)) / np.sqrt(8 * np.log(2))
    smooth = ndimage.gaussian_filter(volume, sigma)
    sizes = zip(volume.shape, factor, shape, strict=True)
    places = [(n - 1) / 2 + f * (np.arange(m) - (m - 1) / 2) for n, f, m in sizes]
    grid = np.meshgrid(*places, indexing="ij", sparse=False)
    spline = order == 3 and volume.ndim == 3 and min(volume.shape) >= 4  # pictures: linear
    mode, order = ("mirror", 3) if spline else ("nearest", 1)
    return ndimage.map_coordinates(smooth, grid, np.float32, order=order, mode=mode)


def normalise(values, inside, how):
    """Clip to percentiles of this scan (or a window), then scale; in place."""
    chosen = values if inside is None or not inside.any() else values[inside]
    bounds = how["window"] or (how["clip"] and np.percentile(chosen, how["clip"]))
    if bounds is not None:
        np.clip(values, *map(float, bounds), out=values)
    if how["normalise"] == "minmax":
        low, high = how["window"] or (values.min(), values.max())
        values -= low
        values /= high - low
    elif how["normalise"] != "none":
        chosen = values if inside is None else values[inside]
        values -= chosen.mean()
        values /= chosen.std(ddof=1)
        if inside is not None:
            values[~inside] = 0


def decode(channels, task):
    """Class indices of probabilities (channel, x, y, z)."""
    labels = sorted(task["labels"].values())
    if len(channels) == len(labels) + 1 and not task["regions"]:  # softmax: the largest wins
        return np.array([0, *labels], np.uint8)[np.argmax(channels, 0)]
    regions = sorted(task["regions"].items(), key=lambda item: (-len(item[1]), item[0]))
    members = [indices for _, indices in regions] or [labels]
    p = np.clip(channels, 1e-6, 1 - 1e-6)
    odds = np.log(p) - np.log1p(-p)
    mask, best = np.zeros(p.shape[1:], np.uint8), np.zeros(p.shape[1:], np.float32)
    for label in labels:  # the label whose set of regions is the most probable one
        chosen = [o for o, indices in zip(odds, members, strict=True) if label in indices]
        score = np.sum(chosen, axis=0) if chosen else best
        mask[score > best] = label
        best = np.maximum(best, score)
    return mask


def run(image, task):
    """Probabilities (channel, x, y, z) of a prepared image; a 2D network takes slices along z.

    A picture has no axis z.
    """
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    flat = task["dimensions"] == 2 and image.ndim == 4
    batch = np.moveaxis(image, 3, 0) if flat else image[None]
    logits = session.run(["logits"], {"image": np.ascontiguousarray(batch)})[0]
    logits = np.moveaxis(logits, 0, 3) if flat else logits[0]
    if task["regions"] or len(task["labels"]) == 1:
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def main(files, out):
    """Segment one scan."""
    how, task = PLAN["preprocess"], PLAN["task"]
    raw, affine, own = read(files)
    if raw.ndim <= task["dimensions"]:
        sys.exit(f"error: {files[0]}: a picture, but the network segments volumes")
    if len(raw) != len(task["channels"]):
        sys.exit(f"error: {files[0]}: {len(raw)} channel(s), but {task['channels']} are expected")

    turned, spacing = raw, np.array(PLAN.get("pixel_mm") or (1.0, 1.0))
    if affine is not None:
        here = aim = orientations.io_orientation(affine)
        if how["orientation"] != "keep":
            aim = orientations.axcodes2ornt(tuple(how["orientation"].upper()))
        turn = orientations.ornt_transform(here, aim)
        turned = [orientations.apply_orientation(channel, turn) for channel in raw]
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))[np.argsort(turn[:, 0])]
    shape = turned[0].shape
    wanted = [] if how["spacing"] == "keep" else how["spacing"]
    factor = np.array([*wanted, *spacing[len(wanted) :]]) / spacing
    factor[np.abs(factor - 1) < 1e-3] = 1
    moves, sizes = (factor != 1).any(), zip(shape, factor, strict=True)
    grid = tuple(max(1, round(n / f)) for n, f in sizes)

    prepared = []
    for channel in turned:
        inside = channel != 0 if how["normalise"] == "zscore_nonzero" else None
        if moves and inside is not None:
            inside = resample(inside.astype(np.float32), factor, grid, 1) > 0.5
        values = resample(channel, factor, grid, 3) if moves else channel.copy()
        normalise(values, inside, how)
        prepared.append(values)
    size = [*(how["size"] or []), *grid[len(how["size"] or []) :]]
    missing = [max(0, m - n) for m, n in zip(size, grid, strict=True)]
    pad = [((n + 1) // 2, n // 2) for n in missing]  # an odd voxel goes to the front
    image = np.pad(np.stack(prepared), [(0, 0), *pad])  # with 0, after the normalisation

    inner = tuple(slice(a, a + n) for (a, _), n in zip(pad, grid, strict=True))
    channels = [channel[inner] for channel in run(image, task)]
    if moves:  # probabilities are brought back, not labels
        channels = [resample(np.pad(c, 1, "edge"), 1 / factor, shape, 1) for c in channels]
    mask = decode(np.stack(channels), task)
    if affine is not None:
        mask = orientations.apply_orientation(mask, orientations.ornt_transform(aim, here))
    write(out, mask.reshape(own), affine)


if __name__ == "__main__":
    main(sys.argv[1:-1], sys.argv[-1])
