"""The table of the known data sets: addresses, digests, labels, terms. Facts, no logic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Access = Literal["download", "registered", "by hand", "synthetic"]
_DECATHLON_ORIGIN = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_DECATHLON_CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022); "
    "Simpson et al., arXiv:1902.09063 (2019)"
)
_GIGA = 1_000_000_000


@dataclass(frozen=True)
class CatalogEntry:
    """One data set.

    Attributes
    ----------
    name
        The official name, also the name of the unpacked folder.
    channels, labels, regions
        As in :class:`lunet.task.Task`: channel names, label name -> our class index, overlapping
        regions.
    access
        ``download`` (anybody may fetch it), ``registered`` (the user fetches it after signing
        terms), ``by hand`` (anybody may fetch it, but this package does not) or ``synthetic``.
    licence, citation, home
        Terms of use, papers to cite, and the page of the data set (for a registered one: where to
        register).
    urls, md5, size
        Addresses of the archive, its official md5 sum and its approximate size in bytes.
    train, test
        Numbers of labelled and of unlabelled images in the official release.
    layout, expected
        How its files are laid out (a value of ``dataset.layout``), and a sketch for messages.
    remap
        Code in the official label files -> our class index, where they differ.
    paired_ids
        Whether the cases 2k-1 and 2k belong to one subject.
    """

    name: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    access: Access
    licence: str
    citation: str
    home: str
    urls: tuple[str, ...] = ()
    md5: str | None = None
    size: int | None = None
    train: int = 0
    test: int = 0
    layout: str = "decathlon"
    expected: str = "dataset.json, imagesTr/, labelsTr/"
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    remap: dict[int, int] = field(default_factory=dict)
    paired_ids: bool = False

    def group_of(self, case: str) -> str:
        """The subject that a case belongs to; a split keeps all cases of a subject in one part.

        With ``paired_ids`` the ids 2k-1 and 2k are the two sides of subject k; otherwise each case
        is its own subject.
        """
        digits = case.rpartition("_")[2]
        if self.paired_ids and digits.isdecimal():
            return f"subject_{(int(digits) + 1) // 2:03d}"
        return case


def _decathlon(
    name: str,
    md5: str,
    counts: tuple[int, int],
    size_gb: float,
    channels: tuple[str, ...],
    *labels: str,
) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        channels=channels,
        labels={label: index for index, label in enumerate(labels, start=1)},
        access="download",
        licence="CC-BY-SA 4.0",
        citation=_DECATHLON_CITATION,
        home="http://medicaldecathlon.com/",
        urls=(f"{_DECATHLON_ORIGIN}/{name}.tar",),
        md5=md5,
        size=round(size_gb * _GIGA),
        train=counts[0],
        test=counts[1],
        paired_ids=name == "Task04_Hippocampus",
    )


_CT, _MRI = ("CT",), ("MRI",)
_BRATS_LABELS = {"NCR": 1, "ED": 2, "ET": 3}
_BRATS_REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
_BRATS_CITATION = (
    "Baid et al., arXiv:2107.02314 (2021); Menze et al., IEEE TMI 34, 1993 (2015); "
    "Bakas et al., Scientific Data 4, 170117 (2017)"
)
_BRATS_TERMS = "terms of the BraTS challenge, signed at Synapse; no redistribution"
_HEART_LABELS = {"LV": 1, "RV": 2, "LA": 3, "RA": 4, "Myo": 5, "AO": 6, "PA": 7}
HEART_CODES = {500: 1, 600: 2, 420: 3, 550: 4, 205: 5, 820: 6, 850: 7}
"""Code in the MM-WHS label files -> our class index."""


def _whole_heart(modality: Literal["ct", "mr"]) -> CatalogEntry:
    return CatalogEntry(
        name=f"MM-WHS_{modality.upper()}",
        channels=_CT if modality == "ct" else _MRI,
        labels=_HEART_LABELS,
        access="registered",
        licence="terms of the MM-WHS challenge, signed by each user; no redistribution",
        citation="Zhuang and Shen, Medical Image Analysis 31, 77 (2016); "
        "Zhuang et al., Medical Image Analysis 58, 101537 (2019)",
        home="https://zmiclab.github.io/zxh/0/mmwhs/",
        train=20,
        test=40,
        layout="mmwhs",
        expected=f"{modality}_train/{modality}_train_1001_image.nii.gz and "
        f"{modality}_train_1001_label.nii.gz",
        # 421 stands for 420 in a label of the public training set
        remap=HEART_CODES | {421: 3},
    )


_BTCV_ORGANS = ("spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver")
_AMOS = (
    *_BTCV_ORGANS,
    *("stomach", "aorta", "inferior vena cava", "pancreas", "right adrenal gland"),
    *("left adrenal gland", "duodenum", "bladder", "prostate/uterus"),
)
_BTCV = (
    *_BTCV_ORGANS,
    *("stomach", "aorta", "inferior vena cava", "portal and splenic vein", "pancreas"),
    *("right adrenal gland", "left adrenal gland"),
)
_FLARE22 = (
    *("liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava"),
    *("right adrenal gland", "left adrenal gland", "gallbladder", "esophagus", "stomach"),
    *("duodenum", "left kidney"),
)
# the first 24 classes of version 2, named like the masks
_TOTALSEGMENTATOR = (
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus"),
    *("trachea", "thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder"),
    *("prostate", "kidney_cyst_left", "kidney_cyst_right"),
)


def _numbered(names: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names, start=1)}


# The user fetches their archives: most need an account, the checksum of AMOS22 is not known here,
# and the files of TotalSegmentator are converted before a study can read them.
_ABDOMEN_AND_HEART = (
    CatalogEntry(
        name="AMOS22",
        channels=_CT,
        labels=_numbered(_AMOS),
        access="by hand",
        licence="CC BY 4.0 at Zenodo",
        citation="Ji et al., AMOS, NeurIPS Datasets and Benchmarks (2022), arXiv:2206.08023",
        home="https://zenodo.org/records/7262581",
        train=240,
        test=240,
        expected="amos22/dataset.json, imagesTr/amos_0001.nii.gz, labelsTr/amos_0001.nii.gz; "
        "numbers up to 500 are CT, the others MRI",
    ),
    CatalogEntry(
        name="FLARE22",
        channels=_CT,
        labels=_numbered(_FLARE22),
        access="registered",
        licence="rules of the FLARE22 challenge, agreed to by each user; no redistribution",
        citation="Ma et al., FLARE22, The Lancet Digital Health (2024), arXiv:2308.05862",
        home="https://flare22.grand-challenge.org/",
        train=50,
        test=2250,
        layout="folders",
        expected="images/FLARE22_Tr_0001_0000.nii.gz and labels/FLARE22_Tr_0001.nii.gz, the 50 "
        "labelled cases only",
    ),
    CatalogEntry(
        name="ACDC",
        channels=("cine",),
        labels={"RV": 1, "Myo": 2, "LV": 3},
        access="registered",
        licence="CC BY-NC-SA 4.0",
        citation="Bernard et al., IEEE TMI 37, 2514 (2018)",
        home="https://www.creatis.insa-lyon.fr/Challenge/acdc/",
        train=200,
        test=100,
        layout="per_subject",
        expected="training/patient001/patient001_frame01.nii.gz and patient001_frame01_gt.nii.gz "
        "(end of diastole and of systole, so two cases of each patient)",
    ),
    CatalogEntry(
        name="KiTS23",
        channels=_CT,
        labels={"kidney": 1, "tumor": 2, "cyst": 3},
        # the classes that the challenge ranks by
        regions={"kidney and masses": (1, 2, 3), "masses": (2, 3), "tumor": (2,)},
        access="registered",
        licence="CC BY-NC-SA 4.0",
        citation="Heller et al., The KiTS21 Challenge, arXiv:2307.01984 (2023)",
        home="https://kits-challenge.org/kits23/ (the images are fetched by its own script)",
        train=489,
        test=110,
        layout="per_subject",
        expected="dataset/case_00000/imaging.nii.gz and segmentation.nii.gz",
    ),
    CatalogEntry(
        name="BTCV",
        channels=_CT,
        labels=_numbered(_BTCV),
        access="registered",
        licence="terms of the challenge, agreed to at Synapse; no redistribution",
        citation="Landman et al., Multi-Atlas Labeling Beyond the Cranial Vault, "
        "doi:10.7303/syn3193805 (2015)",
        home="https://www.synapse.org/#!Synapse:syn3193805",
        train=30,
        test=20,
        layout="per_subject",
        expected="RawData/Training/img/img0001.nii.gz and RawData/Training/label/label0001.nii.gz",
    ),
    CatalogEntry(
        name="TotalSegmentator_v2",
        channels=_CT,
        labels=_numbered(_TOTALSEGMENTATOR),
        access="by hand",
        licence="CC BY 4.0",
        citation="Wasserthal et al., Radiology: Artificial Intelligence 5, e230024 (2023)",
        home="https://zenodo.org/records/10047292",
        md5="fe250e5718e0a3b5df4c4ea9d58a62fe",
        size=23_581_218_285,
        train=1228,
        expected="s0000/ct.nii.gz and s0000/segmentations/liver.nii.gz, of which `lunet import "
        "SOURCE --layout totalsegmentator --out RAW` makes",
    ),
)

_ENTRIES = (
    _decathlon(
        "Task01_BrainTumour",
        "240a19d752f0d9e9101544901065d872",
        (484, 266),
        7.09,
        ("FLAIR", "T1w", "t1gd", "T2w"),
        *("edema", "non-enhancing tumor", "enhancing tumour"),
    ),
    _decathlon(
        "Task02_Heart", "06ee59366e1e5124267b774dbd654057", (20, 10), 0.4, _MRI, "left atrium"
    ),
    _decathlon(
        "Task03_Liver", "a90ec6c4aa7f6a3d087205e23d4e6397", (131, 70), 27, _CT, "liver", "cancer"
    ),
    _decathlon(
        "Task04_Hippocampus",
        "9d24dba78a72977dbd1d2e110310f31b",
        (260, 130),
        0.027,
        _MRI,
        *("Anterior", "Posterior"),
    ),
    _decathlon(
        "Task05_Prostate",
        "35138f08b1efaef89d7424d2bcc928db",
        (32, 16),
        0.2,
        ("T2", "ADC"),
        *("PZ", "TZ"),
    ),
    _decathlon("Task06_Lung", "8afd997733c7fc0432f71255ba4e52dc", (63, 32), 8.5, _CT, "cancer"),
    _decathlon(
        "Task07_Pancreas",
        "4f7080cfca169fa8066d17ce6eb061e4",
        (281, 139),
        11.5,
        _CT,
        *("pancreas", "cancer"),
    ),
    _decathlon(
        "Task08_HepaticVessel",
        "641d79e80ec66453921d997fbf12a29c",
        (303, 139),
        8.7,
        _CT,
        *("Vessel", "Tumour"),
    ),
    _decathlon("Task09_Spleen", "410d4a301da4e5b2f6f86ec3ddba524e", (41, 20), 1.5, _CT, "spleen"),
    _decathlon(
        "Task10_Colon",
        "bad7a188931dc2f6acf72b08eb6202d0",
        (126, 64),
        5.8,
        _CT,
        "colon cancer primaries",
    ),
    CatalogEntry(
        name="HarP",
        channels=("T1",),
        labels={"hippocampus": 1},
        access="registered",
        licence="ADNI data use agreement, signed by each user; no redistribution",
        citation="Boccardi et al., Alzheimer's & Dementia 11, 175 (2015)",
        home="http://www.hippocampal-protocol.net/ (labels) and https://adni.loni.usc.edu/ (T1)",
        train=135,
        expected="imagesTr/<subject>.nii.gz and labelsTr/<subject>.nii.gz, both hippocampi of a "
        "subject in one label file, with a dataset.json",
    ),
    CatalogEntry(
        name="Kaggle_Lung",
        channels=("CT",),
        labels={"tumour": 1},
        access="registered",
        licence="not stated clearly by the collection; Task06_Lung (CC-BY-SA 4.0) has lung tumours "
        "with a clear one",
        citation='"Medical Image Segmentation: Evaluation", doi:10.34740/KAGGLE/DSV/4728423',
        home="https://www.kaggle.com/datasets/modaresimr/medical-image-segmentation with a Kaggle "
        "account and fetch Task006_Lung with your own credentials",
        expected="`lunet import Task006_Lung --layout kaggle --out RAW` makes them",
    ),
    CatalogEntry(
        name="BraTS2021",
        channels=("flair", "t1", "t1ce", "t2"),
        labels=_BRATS_LABELS,
        regions=_BRATS_REGIONS,
        access="registered",
        licence=_BRATS_TERMS,
        citation=_BRATS_CITATION,
        home="https://www.synapse.org/#!Synapse:syn27046444/wiki/616992",
        train=1251,
        test=219,
        layout="brats",
        expected="BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz",
        remap={4: 3},
    ),
    CatalogEntry(
        name="BraTS2023",
        channels=("t2f", "t1n", "t1c", "t2w"),
        labels=_BRATS_LABELS,
        regions=_BRATS_REGIONS,
        access="registered",
        licence=_BRATS_TERMS,
        citation=_BRATS_CITATION,
        home="https://www.synapse.org/#!Synapse:syn51156910/wiki/622341",
        train=1251,
        test=219,
        layout="brats",
        expected="BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t2f,t1n,t1c,t2w,seg}.nii.gz",
    ),
    _whole_heart("ct"),
    _whole_heart("mr"),
    *_ABDOMEN_AND_HEART,
)

CATALOG: dict[str, CatalogEntry] = {entry.name: entry for entry in _ENTRIES}
"""Official name -> entry, for all real data sets."""
