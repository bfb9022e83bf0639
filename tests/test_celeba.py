"""CelebA through torchvision's loader, from a small folder in its layout that is made here."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CelebA

from vae_helpers import commands
from vae_helpers.data import DataError, Images, celeba, load_celeba

SPLITS = ("train", "valid", "valid", "test", "train", "test")
LISTS = {
    "list_eval_partition.txt": lambda name, split: f"{name} {('train', 'valid', 'test').index(split)}",
    "identity_CelebA.txt": lambda name, split: f"{name} 7",
    "list_attr_celeba.txt": lambda name, split: f"{name} 1 -1",
    "list_bbox_celeba.txt": lambda name, split: f"{name} 1 2 3 4",
    "list_landmarks_align_celeba.txt": lambda name, split: f"{name} 1 2 3 4 5 6 7 8 9 10",
}
HEADED = ("list_attr_celeba.txt", "list_bbox_celeba.txt", "list_landmarks_align_celeba.txt")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setenv("VAE_OFFLINE", "1")


@pytest.fixture
def root(tmp_path):
    """Six pictures, each of one colour with a white bar over its middle rows."""
    folder = tmp_path / "celeba"
    (folder / celeba.IMAGES).mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(len(SPLITS))]
    for i, name in enumerate(names):
        pixels = np.empty((218, 178, 3), np.uint8)
        pixels[:] = (40 * i, 200 - 30 * i, 90)
        pixels[100:118] = 255
        Image.fromarray(pixels).save(folder / celeba.IMAGES / name, quality=95)
    for list_name, line in LISTS.items():
        head = ["6", "a b"] if list_name in HEADED else []
        lines = [*head, *(line(name, split) for name, split in zip(names, SPLITS, strict=True))]
        (folder / list_name).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_splits_and_the_crop_are_right(root):
    images = load_celeba(root, progress=False)
    assert images.shape == (3, 64, 64)
    assert images.x_dim == 3 * 64 * 64
    assert (images.x_train.shape, images.x_test.shape) == ((4, 12288), (2, 12288))
    assert images.x_train.dtype == torch.uint8
    corner = images.x_train.view(-1, 3, 64, 64)[:, :, 0, 0].int()
    expected = torch.tensor([[40 * i, 200 - 30 * i, 90] for i in (0, 4, 1, 2)])  # train in order, then valid
    assert (corner - expected).abs().max() <= 4  # JPEG
    middle = images.x_test.view(-1, 3, 64, 64)[0, 0, :, 32].int()
    bright = (middle > 200).nonzero().flatten()
    # rows 100 to 117 of 218 are rows 35.8 to 42.2 of 78, and 7 are cut off above
    assert (bright.min().item(), bright.max().item()) == (29, 34)
    assert images.source == "CelebA, 4 train and 2 test images (the folder given)"
    held_out = images.validation(2)
    assert torch.equal(held_out.x_test, images.x_train[-2:])


def test_the_cropped_pixels_are_kept(root):
    first = load_celeba(root, progress=False)
    for path in (root / "celeba" / celeba.IMAGES).iterdir():
        path.unlink()
    assert torch.equal(load_celeba(root, progress=False).x_train, first.x_train)
    assert sorted(path.name for path in (root / "celeba" / "64x64").iterdir()) == ["test.npy", "train.npy"]


def test_what_is_changed_in_memory_does_not_reach_the_file(root):
    images = load_celeba(root, progress=False)
    before = images.x_train.clone()
    images.x_train.zero_()
    assert torch.equal(load_celeba(root, progress=False).x_train, before)


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "list_attr_celeba.txt", "identity_CelebA.txt"])
def test_a_folder_without_its_lists_is_refused_with_the_route_by_hand(root, name):
    (root / "celeba" / name).unlink()
    with pytest.raises(DataError, match=f"no {name}. By hand: from https://mmlab.*put them into"):
        load_celeba(root, progress=False)


def test_an_empty_folder_names_everything_that_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"no list_attr_celeba\.txt, .*list_eval_partition\.txt, img_align_celeba/"):
        load_celeba(tmp_path)
    assert not (tmp_path / "celeba").exists()  # nothing was left behind


def test_a_missing_or_mangled_image_is_named_and_nothing_half_done_is_kept(root):
    path = root / "celeba" / celeba.IMAGES / "000005.jpg"
    good = path.read_bytes()
    for damage, message in (
        (good[: len(good) // 3], "cannot be read"),
        (b"not a picture", "cannot be read"),
        (None, "missing"),
    ):
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(DataError, match=rf"000005\.jpg .*{message}"):
            load_celeba(root, progress=False)
        assert list((root / "celeba" / "64x64").iterdir()) == []
    path.write_bytes(good)
    assert len(load_celeba(root, progress=False).x_train) == 4


@pytest.mark.parametrize("text", ["000001.jpg zero\n", "", "000001.jpg 0\n"])
def test_lists_that_cannot_be_read_or_name_no_test_image_are_refused(root, text):
    (root / "celeba" / "list_eval_partition.txt").write_text(text)
    with pytest.raises(DataError, match="the lists in"):
        load_celeba(root, progress=False)


def test_kept_pixels_of_another_kind_are_refused(root):
    load_celeba(root, progress=False)
    path = root / "celeba" / "64x64" / "test.npy"
    np.save(path, np.zeros((3, 5), np.uint8))
    with pytest.raises(DataError, match=r"holds uint8 \(3, 5\), expected uint8 \(N, 12288\)"):
        load_celeba(root, progress=False)
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        load_celeba(root, progress=False)
    np.save(path, np.array([{"a": 1}], dtype=object))  # pickled: what must be refused
    with pytest.raises(DataError, match="cannot be read"):  # and nothing was unpickled
        load_celeba(root, progress=False)


def test_a_refused_download_says_why_and_gives_the_route_by_hand(tmp_path, monkeypatch):
    monkeypatch.delenv("VAE_OFFLINE")

    def refuse(*args, **kwargs):
        raise RuntimeError("Too many users have viewed or downloaded this file recently.\nMore.")

    monkeypatch.setattr(CelebA, "download", refuse)
    with pytest.raises(DataError, match=r"Too many users .* refuses it once too many people .* By hand: from https"):
        load_celeba(tmp_path, download=True)


def test_offline_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(CelebA, "download", lambda *args: pytest.fail("the network was asked"))
    with pytest.raises(DataError, match=r"VAE_OFFLINE forbids fetching CelebA\. By hand"):
        load_celeba(tmp_path, download=True)


def test_the_data_command_says_what_is_there(root, monkeypatch, capsys):
    monkeypatch.setenv("VAE_DATA", str(root))
    commands.data("celeba")
    assert "celeba: CelebA, 4 train and 2 test images (VAE_DATA); images 3x64x64" in capsys.readouterr().out
    commands.data("portraits")
    assert "values of turn 11, width 11" in capsys.readouterr().out


def rewrite(root, old, new):
    for name in LISTS:
        path = root / "celeba" / name
        path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("name", ["../outside.jpg", "/outside.jpg", "folder/000001.jpg", "..\\outside.jpg"])
def test_lists_that_name_files_elsewhere_are_refused(root, name):
    rewrite(root, "000001.jpg", name)
    with pytest.raises(DataError, match="which is no plain file name"):
        load_celeba(root, progress=False)
    assert list((root / "celeba" / "64x64").iterdir()) == []


@pytest.mark.parametrize("split", ["7", "-1"])
def test_a_split_that_does_not_exist_is_refused(root, split):
    path = root / "celeba" / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000005.jpg 0", f"000005.jpg {split}"))
    with pytest.raises(DataError, match=rf"has the line '000005.jpg {split}', but splits are 0, 1 and 2"):
        load_celeba(root, progress=False)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n", b"GIF89a"])
def test_no_other_kind_of_file_is_opened(root, content, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail("a program was started"))
    (root / "celeba" / celeba.IMAGES / "000001.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"000001\.jpg cannot be read"):
        load_celeba(root, progress=False)


def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded(root):
    Image.new("1", (4000, 4000)).save(root / "celeba" / celeba.IMAGES / "000001.jpg", format="PNG")
    with pytest.raises(DataError, match=r"000001\.jpg has 4000 x 4000 pixels"):
        load_celeba(root, progress=False)


def test_a_full_disk_is_one_sentence(root, monkeypatch):
    def full(file, n_bytes):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(celeba, "allocate", full)
    with pytest.raises(DataError, match=r"cannot be written .*No space left.*Free some space"):
        load_celeba(root, progress=False)
    assert list((root / "celeba" / "64x64").iterdir()) == []


def test_kept_pixels_without_a_row_are_refused(root):
    load_celeba(root, progress=False)
    np.save(root / "celeba" / "64x64" / "test.npy", np.zeros((0, 12288), np.uint8))
    with pytest.raises(DataError, match=r"cannot be read|holds uint8 \(0, 12288\)"):
        load_celeba(root, progress=False)


def test_the_hashes_of_the_pixels_are_kept_and_made_again_when_they_are_stale(root, monkeypatch):
    first = load_celeba(root, progress=False)
    plain = Images("celeba", "", celeba.SHAPE, first.x_train.clone(), first.x_test.clone())
    assert first.fingerprint == plain.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(celeba, "sha256_of", lambda x: pytest.fail("hashed again"))
        assert load_celeba(root, progress=False).fingerprint == first.fingerprint
    for damage in ("{", "[]", '{"files": 1, "sha256": 2}', '{"files": [], "sha256": ["a", "b"]}', None):
        path = root / "celeba" / "64x64.json"
        path.unlink() if damage is None else path.write_text(damage)
        assert load_celeba(root, progress=False).fingerprint == first.fingerprint
    np.save(root / "celeba" / "64x64" / "test.npy", 255 - first.x_test.numpy())
    assert load_celeba(root, progress=False).fingerprint != first.fingerprint
