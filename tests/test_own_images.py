"""A folder of pictures as a data set: order, splits, decoding, what is kept, and folders that cannot be used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae_helpers import data
from vae_helpers.data import DataError, Images, fitting, folders, known_spec, load_images, own, pictures, store

WAYS = {
    "separator": "no/such",
    "suffix": "no_such.npy",
    "home": "~/no/such",
}


@pytest.fixture(autouse=True)
def data_root(tmp_path_factory, monkeypatch):
    """A data root of its own, no network, and no progress bar."""
    root = tmp_path_factory.mktemp("root")
    monkeypatch.setenv("VAE_DATA", str(root))
    monkeypatch.setenv("VAE_OFFLINE", "1")
    return root


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def animals(folder, per_class=10, shape=(6, 5)):
    """Pictures of three classes, all different."""
    for k, name in enumerate(("cat", "Dog", "emu")):
        for i in range(per_class):
            write(folder / name / f"{i}.png", noise(*shape, seed=100 * k + i))
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """Counts the pictures that are decoded."""
    calls = []
    original = pictures.decode

    def counted(path, **options):
        calls.append(path.name)
        return original(path, **options)

    monkeypatch.setattr(pictures, "decode", counted)
    return calls


# ---- order, labels and splits


def test_class_folders_are_labels_in_the_order_of_their_names(tmp_path):
    images = load_images(animals(tmp_path / "zoo"))
    assert (images.name, images.shape, images.classes, images.n_classes) == ("zoo", (6, 5), ("cat", "Dog", "emu"), 3)
    assert (images.x_train.shape, images.x_test.shape) == ((27, 30), (3, 30))
    assert images.x_train.dtype == torch.uint8
    assert sorted(images.y_test.tolist()) == [0, 1, 2]  # a tenth of each class
    assert images.source == "27 train and 3 test pictures of the folder zoo, 3 classes (cat, Dog, emu)"
    for x, y in ((images.x_train, images.y_train), (images.x_test, images.y_test)):
        for row, label in zip(x, y.tolist(), strict=True):
            candidates = [noise(6, 5, seed=100 * label + i).reshape(-1) for i in range(10)]
            assert any(np.array_equal(row.numpy(), one) for one in candidates)


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    for k in range(12):
        for i in range(2):
            write(tmp_path / str(k) / f"{i}.png", np.full((2, 2), 10 * k + i, np.uint8))
    images = load_images(tmp_path)
    assert images.classes == tuple(map(str, range(12)))
    assert torch.equal(images.x_train[:, 0] // 10, images.y_train.to(torch.uint8))


def test_the_split_hangs_on_the_seed_and_the_share_alone(tmp_path):
    folder = animals(tmp_path / "zoo")
    first, again = load_images(folder), load_images(folder)
    assert first.fingerprint == again.fingerprint
    other, larger = load_images(folder, split_seed=1), load_images(folder, test_share=0.3)
    assert len({first.fingerprint, other.fingerprint, larger.fingerprint}) == 3
    assert larger.y_test.bincount().tolist() == [3, 3, 3]
    rows = {tuple(row) for row in torch.cat([first.x_train, first.x_test]).tolist()}
    assert rows == {tuple(row) for row in torch.cat([other.x_train, other.x_test]).tolist()}


def test_training_images_are_in_no_order_of_classes(tmp_path):
    """`Images.validation` holds out the last ones, which must not be of one class."""
    folder = tmp_path / "zoo"
    for part in ("train", "test"):
        animals(folder / part)
    for images in (load_images(folder), load_images(folder / "train")):
        assert len(images.validation(12).y_test.unique()) == 3


def test_without_class_folders_there_are_no_labels(tmp_path):
    for i in range(20):
        write(tmp_path / f"photo {i}.png", noise(3, 4, seed=i))
    images = load_images(tmp_path)
    assert (len(images.x_train), len(images.x_test)) == (18, 2)
    assert (len(images.y_train), images.classes, images.n_classes) == (0, (), 0)


def test_pictures_are_found_at_any_depth_below_their_class(tmp_path):
    folder = animals(tmp_path / "zoo")
    write(folder / "cat" / "2024" / "may" / "a.png", noise(6, 5, seed=999))
    images = load_images(folder)
    y = torch.cat([images.y_train, images.y_test])
    assert y.bincount().tolist() == [11, 10, 10]


def test_one_class_alone_is_a_set_with_one_class(tmp_path):
    for i in range(5):
        write(tmp_path / "only" / f"{i}.png", noise(3, 3, seed=i))
    images = load_images(tmp_path)
    assert (images.classes, images.n_classes, images.y_train.tolist()) == (("only",), 1, [0] * 4)


def test_a_class_of_one_picture_keeps_it_for_training(tmp_path):
    folder = animals(tmp_path / "zoo", per_class=2)
    write(folder / "gnu" / "0.png", noise(6, 5))
    images = load_images(folder)
    assert images.y_train.bincount().tolist() == [1, 1, 1, 1]
    assert images.y_test.bincount(minlength=4).tolist() == [1, 1, 1, 0]


def test_train_and_test_folders_are_the_split_whatever_their_case(tmp_path):
    animals(tmp_path / "zoo" / "Train", per_class=4)
    animals(tmp_path / "zoo" / "test", per_class=2)
    (tmp_path / "zoo" / "val").mkdir()
    images = load_images(tmp_path / "zoo")
    assert (len(images.x_train), len(images.x_test)) == (12, 6)
    assert images.y_test.tolist() == [0, 0, 1, 1, 2, 2]
    assert "1 other files or folders ignored (val/)" in images.source


def test_files_named_by_number_restore_the_order_and_equal_the_arrays(tmp_path):
    """A set written as pictures by its index, the class as folder, is the same set to the last bit."""
    x, y = noise(60, 7, 6), np.random.default_rng(1).integers(0, 4, 60)
    for i in range(60):
        part = "train" if i < 45 else "test"
        write(tmp_path / "png" / part / str(y[i]) / f"{i:05}.png", x[i])
    np.savez(tmp_path / "set.npz", x_train=x[:45], y_train=y[:45], x_test=x[45:], y_test=y[45:])
    from_folder, from_array = load_images(tmp_path / "png"), load_images(tmp_path / "set.npz")
    assert torch.equal(from_folder.x_train, torch.from_numpy(x[:45].reshape(45, -1)))
    assert torch.equal(from_folder.y_train, torch.from_numpy(y[:45]))
    assert torch.equal(from_folder.x_test, from_array.x_test)
    assert from_folder.fingerprint == from_array.fingerprint
    unnumbered = tmp_path / "png" / "train" / str(y[0]) / "00000.png"
    unnumbered.rename(unnumbered.with_name("first.png"))
    assert load_images(tmp_path / "png").fingerprint != from_array.fingerprint


def test_numbers_that_come_twice_are_no_order(tmp_path):
    folder = animals(tmp_path / "zoo")
    names = [picture.name for picture in folders._ordered(folders._part(folder, "", folders.Counter()))]
    assert names[:3] == ["cat/0.png", "cat/1.png", "cat/2.png"]
    assert names[10] == "Dog/0.png"  # as if in lower case


def test_the_order_hangs_on_no_file_system(tmp_path, monkeypatch):
    folder = animals(tmp_path / "zoo")
    first = load_images(folder)
    shutil.rmtree(store.data_root() / "packed")
    scandir = folders.os.scandir

    class Backwards:
        def __init__(self, path):
            self.entries = list(scandir(path))[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(folders.os, "scandir", Backwards)
    assert load_images(folder).fingerprint == first.fingerprint


def test_what_is_no_picture_is_ignored_and_counted(tmp_path):
    folder = animals(tmp_path / "zoo")
    for name in ("notes.txt", "cat/.DS_Store", "cat/Thumbs.db", "emu/more.TXT", ".hidden.png"):
        (folder / name).write_bytes(b"nothing")
    (folder / "__MACOSX").mkdir()
    write(folder / ".cache" / "a.png", noise(2, 2))
    images = load_images(folder)
    assert len(images.x_train) == 27
    assert images.source.endswith(
        "; 7 other files or folders ignored (.DS_Store, .cache, .db, .hidden.png, .txt, __MACOSX)"
    )


def test_paths_with_spaces_and_other_letters(tmp_path, monkeypatch):
    folder = animals(tmp_path / "мои картинки, März (2)")
    images = load_images(str(folder))
    assert images.name == folder.name
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_images(f"~/{folder.name}").fingerprint == images.fingerprint


def test_a_linked_class_folder_is_followed_and_a_circle_is_refused(tmp_path):
    folder = animals(tmp_path / "zoo")
    animals(tmp_path / "elsewhere")
    (folder / "fox").symlink_to(tmp_path / "elsewhere" / "cat")
    assert load_images(folder).classes == ("cat", "Dog", "emu", "fox")
    (folder / "fox" / "again").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"is a link to a folder that it lies in"):
        load_images(folder)


# ---- decoding


def one_pixel(path, **options):
    images = load_images(path.parent, **options)
    return images, images.x_train.view(len(images.x_train), -1, 4)[0, :, 0].tolist()


def twice(path, image, **options):
    """The same picture two times, one for each split."""
    for name in ("a", "b"):
        image.save(
            path / f"{name}{options.get('suffix', '.png')}", **{k: v for k, v in options.items() if k != "suffix"}
        )
    return path / "a"


GREY16 = Image.fromarray(np.full((2, 2), 0x8080, np.uint16))
PALETTE = Image.new("P", (2, 2), 1)
PALETTE.putpalette([9, 9, 9, 200, 100, 50])
GREY_PALETTE = Image.new("P", (2, 2), 1)
GREY_PALETTE.putpalette([9, 9, 9, 77, 77, 77])


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (Image.new("1", (2, 2), 1), {}, [255]),
        (Image.new("L", (2, 2), 77), {}, [77]),
        (Image.new("LA", (2, 2), (200, 51)), {}, [40]),  # a fifth of 200 on black
        (Image.new("RGB", (2, 2), (10, 20, 30)), {}, [10, 20, 30]),
        (Image.new("RGBA", (2, 2), (100, 200, 50, 51)), {}, [20, 40, 10]),
        (Image.new("RGBA", (2, 2), (100, 200, 50, 0)), {}, [0, 0, 0]),
        (PALETTE, {}, [200, 100, 50]),
        (PALETTE, {"transparency": 1}, [0, 0, 0]),
        (PALETTE, {"transparency": bytes([255, 51])}, [40, 20, 10]),
        (GREY_PALETTE, {}, [77]),
        (GREY16, {}, [128]),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), {"suffix": ".tif"}, [255, 0, 0]),
        (Image.new("RGB", (2, 2), (10, 20, 30)), {"suffix": ".BMP", "format": "BMP"}, [10, 20, 30]),
        (Image.new("RGB", (2, 2), (10, 20, 30)), {"suffix": ".webp", "lossless": True}, [10, 20, 30]),
        (Image.new("L", (2, 2), 9), {"suffix": ".gif", "save_all": True, "append_images": [Image.new("L", (2, 2), 99)]},
         [9]),
        (Image.new("L", (2, 2), 77), {"suffix": ".jpeg", "quality": 95}, [77]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)  # fmt: skip
def test_every_mode_becomes_grey_or_rgb_on_black(tmp_path, image, options, expected):
    _, found = one_pixel(twice(tmp_path, image, **options))
    assert np.abs(np.array(found) - expected).max() <= 1
    assert len(found) == len(expected)


def test_grey_and_colour_together_are_colour_unless_asked_otherwise(tmp_path):
    write(tmp_path / "0.png", np.full((2, 2), 50, np.uint8))
    write(tmp_path / "1.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))
    assert load_images(tmp_path).shape == (3, 2, 2)
    grey = load_images(tmp_path, channels=1)
    assert grey.shape == (2, 2)
    assert sorted(torch.cat([grey.x_train, grey.x_test])[:, 0].tolist()) == [50, 76]  # 0.299 of 255


def test_a_grey_set_in_colour_has_three_equal_channels(tmp_path):
    folder = animals(tmp_path / "zoo")
    grey, colour = load_images(folder), load_images(folder, channels=3)
    assert colour.shape == (3, 6, 5)
    assert torch.equal(colour.x_train.view(-1, 3, 30), grey.x_train[:, None].expand(-1, 3, -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_pictures_are_turned_upright_by_their_exif_orientation(tmp_path, suffix):
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, 16:] = 200  # bright on the right; orientation 6 asks for a quarter turn clockwise: bright at the bottom
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}.get(suffix, {})
    for name in ("a", "b"):
        write(tmp_path / f"{name}{suffix}", pixels, exif=exif, **options)
    images = load_images(tmp_path, channels=1)
    assert images.shape == (32, 16)
    upright = images.x_train[0].view(32, 16)
    assert upright[:16].max() < 20
    assert upright[16:].min() > 180


@pytest.mark.parametrize("damage", [b"", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff", b"nonsense", b"MM"])
def test_damaged_exif_data_do_no_harm(tmp_path, damage, recwarn):
    for name in "ab":
        write(tmp_path / f"{name}.jpg", noise(8, 16), exif=b"Exif\0\0" + damage)
    assert load_images(tmp_path).shape == (8, 16)
    assert not list(recwarn)


def test_sixteen_bits_keep_their_ends(tmp_path):
    levels = np.array([[0, 128, 129, 65535]], np.uint16)
    for name in "ab":
        Image.fromarray(levels).save(tmp_path / f"{name}.png")
    assert load_images(tmp_path).x_train[0].tolist() == [0, 0, 1, 255]


def test_a_size_is_reached_by_resizing_and_cutting_out_the_middle(tmp_path):
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200  # the middle third, all that is left at 10 x 10
    wide[:, :20] = 90
    for name in "ab":
        write(tmp_path / f"{name}.png", wide)
    images = load_images(tmp_path, size=(10, 10))
    assert images.shape == (10, 10)
    assert images.x_train[0].view(10, 10)[:, 1:-1].unique().tolist() == [200]
    tall = load_images(tmp_path, size=(8, 3))
    assert tall.shape == (8, 3)
    assert tall.x_train[0].unique().tolist() == [200]


def test_resizing_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    for name in "ab":
        write(tmp_path / f"{name}.png", stripes)
    found = load_images(tmp_path, size=(8, 8)).x_train[0]
    assert (found.float() - 127.5).abs().max() < 15  # every eighth pixel would be 0 or 255


def test_any_size_is_reached_from_any_other():
    generator = np.random.default_rng(0)
    for _ in range(300):
        old, new = generator.integers(1, 90, 2), tuple(map(int, generator.integers(1, 90, 2)))
        level = int(generator.integers(0, 256))
        found = fitting.fit_picture(Image.new("L", tuple(map(int, old)), level), new)
        assert found.shape == (new[0] * new[1],)
        assert set(found.tolist()) == {level}


def test_a_size_of_its_own_changes_nothing(tmp_path):
    folder = animals(tmp_path / "zoo")
    assert load_images(folder, size=(6, 5)).fingerprint == load_images(folder).fingerprint


# ---- kept pixels


def test_an_unchanged_folder_is_decoded_once(tmp_path, decoded, data_root):
    folder = animals(tmp_path / "zoo")
    first = load_images(folder)
    assert len(decoded) == 30
    again = load_images(folder)
    assert len(decoded) == 30
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.x_train, first.x_train)
    plain = Images("", "", first.shape, first.x_train.clone(), first.x_test.clone(), first.y_train, first.y_test)
    assert first.fingerprint == plain.fingerprint  # the kept hashes are those of the pixels
    assert sorted(path.suffix for path in (data_root / "packed").iterdir()) == [".json", ".npy"]


@pytest.mark.parametrize("change", ["touched", "replaced", "added", "removed", "class"])
def test_a_changed_folder_is_decoded_again(tmp_path, decoded, change):
    folder = animals(tmp_path / "zoo")
    before = load_images(folder)
    path = folder / "cat" / "3.png"
    if change == "touched":
        folders.os.utime(path, ns=(1, 1))
    elif change == "replaced":
        write(path, noise(6, 5, seed=12345))
    elif change == "added":
        write(folder / "cat" / "10.png", noise(6, 5, seed=12345))
    elif change == "removed":
        path.unlink()
    else:
        path.rename(folder / "emu" / "x.png")
    decoded.clear()
    after = load_images(folder)
    assert len(decoded) == len(after.x_train) + len(after.x_test)
    assert (after.fingerprint == before.fingerprint) is (change == "touched")


def test_two_folders_alike_in_names_sizes_and_times_are_told_apart(tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        for i in range(4):
            path = write(tmp_path / name / f"{i}.bmp", noise(4, 4, seed=10 * seed + i))
            folders.os.utime(path, ns=(0, 0))
    assert load_images(tmp_path / "one").fingerprint != load_images(tmp_path / "two").fingerprint


def test_changes_in_memory_do_not_reach_the_kept_pixels(tmp_path):
    folder = animals(tmp_path / "zoo")
    images = load_images(folder)
    before = images.x_train.clone()
    images.x_train.zero_()
    assert torch.equal(load_images(folder).x_train, before)


# ---- what cannot be used


def refused(folder, match, **options):
    with pytest.raises(DataError, match=match) as error:
        load_images(folder, **options)
    assert "\n" not in str(error.value)
    packed = store.data_root() / "packed"
    left = [path.name for path in packed.iterdir()] if packed.exists() else []
    assert [name for name in left if not name.endswith((".npy", ".json"))] == []  # nothing half-written stays
    return str(error.value)


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    folder = animals(tmp_path / "zoo")
    write(folder / "cat" / "large.png", noise(40, 30))
    write(folder / "emu" / "small.png", noise(2, 9))
    message = refused(
        folder, r"3 sizes .*est is 2x9.*largest 40x30.*commonest 6x5 \(30 pictures; large\.png .*\).*--size 6x5"
    )
    assert "32 pictures" in message
    assert load_images(folder, size=(6, 5)).shape == (6, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"bad\.jpg is empty \(0 bytes\)"),
        (b"not a picture", r"bad\.jpg is no picture of a known kind \(PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\nshowpage\n", r"bad\.jpg is no picture of a known kind"),
        (b"%PDF-1.4\n", r"bad\.jpg is no picture of a known kind"),
    ],
    ids=["empty", "text", "PostScript", "PDF"],
)
def test_a_file_that_is_no_picture_is_named(tmp_path, content, message, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail("a program was started"))
    folder = animals(tmp_path / "zoo")
    (folder / "cat" / "bad.jpg").write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_truncated_picture_is_named(tmp_path, suffix, share):
    folder = animals(tmp_path / "zoo", shape=(60, 50))
    path = write(folder / "cat" / f"cut{suffix}", noise(60, 50))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    message = refused(folder, rf"cut\{suffix} .*(cannot be read|no picture)", channels=1)
    assert "take it out of the folder" in message


@pytest.mark.parametrize("side", [7_200, 9_500, 14_000], ids=["cap", "warning", "bomb"])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, side, monkeypatch, recwarn):
    folder = animals(tmp_path / "zoo")
    huge = Image.new("1", (side, side))
    huge.save(folder / "cat" / "huge.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    refused(folder, r"huge\.png has .*more than the 50,000,000")
    assert not [warning for warning in recwarn if "Bomb" in warning.category.__name__]


def test_levels_beyond_sixteen_bits_and_fractions_are_refused(tmp_path):
    for name in "ab":
        Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(tmp_path / f"{name}.tif")
    refused(tmp_path, r"a\.tif has levels from 70000 to 70000|b\.tif has levels")
    for name in "ab":
        Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / f"{name}.tif")
    refused(tmp_path, "holds fractions")


@pytest.mark.parametrize("content", ["nothing", "texts", "arrays"])
def test_a_folder_without_pictures_is_refused(tmp_path, content):
    if content == "texts":
        (tmp_path / "a.txt").write_text("a")
    if content == "arrays":
        np.save(tmp_path / "a.npy", noise(4, 4, 4))
    refused(
        tmp_path,
        {"nothing": "holds no picture:", "texts": r"\(there are \.txt\)", "arrays": r"\.npy, \.npz or idx"}[content],
    )


def test_a_folder_that_mixes_two_ways_is_refused(tmp_path):
    folder = animals(tmp_path / "zoo")
    write(folder / "loose.png", noise(6, 5))
    refused(folder, "holds 1 pictures beside its class folders")


@pytest.mark.parametrize("half", ["train", "test"])
def test_half_a_split_is_refused(tmp_path, half):
    animals(tmp_path / half)
    refused(tmp_path, rf"has a folder {half} but no folder (train|test): there must be both")


def test_splits_with_other_classes_are_refused(tmp_path):
    animals(tmp_path / "train")
    animals(tmp_path / "test")
    shutil.rmtree(tmp_path / "test" / "emu")
    refused(tmp_path, "only one of them has 'emu'")
    shutil.rmtree(tmp_path / "test")
    write(tmp_path / "test" / "a.png", noise(6, 5))
    refused(tmp_path, "only one of them has no class at all, 'Dog', 'cat', 'emu'")


@pytest.mark.parametrize("per_class", [1])
def test_too_few_pictures_for_a_split_are_refused(tmp_path, per_class):
    refused(animals(tmp_path / "zoo", per_class=per_class), "too few images to hold some out for a test: 3 in all")
    write(tmp_path / "one" / "a.png", noise(2, 2))
    refused(tmp_path / "one", "too few images .* 1 in all")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    folder = animals(tmp_path / "zoo")

    def denied(path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # the tests may run as root, whom nothing stops
        patch.setattr(folders.os, "scandir", denied)
        refused(folder, r"zoo cannot be read \(Permission denied\)")
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", lambda path, **options: denied(path))
        refused(folder, r"\.png cannot be read \(\[Errno 13\] Permission denied\)")


def test_a_broken_link_is_named(tmp_path):
    folder = animals(tmp_path / "zoo")
    (folder / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    refused(folder, r"gone\.png cannot be read")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 0)}, r"size must be .* got \(0, 0\)"),
        ({"size": (-1, 5)}, r"size must be"),
        ({"size": (5,)}, "size must be"),
        ({"size": 5}, "size must be"),
        ({"size": (2.5, 5)}, "size must be"),
        ({"size": (10**6, 10**6)}, "at most 50,000,000 pixels"),
        ({"channels": 2}, "channels must be 1 .* got 2"),
        ({"channels": 0}, "channels must be"),
        ({"test_share": 0}, "test_share must lie between 0 and 1"),
        ({"test_share": 1}, "test_share must lie between 0 and 1"),
        ({"test_share": float("nan")}, "test_share must lie .* got nan"),
        ({"test_share": -0.1}, "test_share must"),
        ({"split_seed": -1}, "split_seed must"),
        ({"split_seed": 0.5}, "split_seed must"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, options, message):
    refused(animals(tmp_path / "zoo"), message, **options)


def test_the_data_root_may_not_be_writable(tmp_path, monkeypatch):
    folder = animals(tmp_path / "zoo")
    monkeypatch.setattr("vae_helpers.data.files.os.access", lambda path, mode: False)
    refused(folder, "cannot write to the data folder .*Set VAE_DATA")


# ---- names


@pytest.mark.parametrize("way", WAYS)
def test_a_path_that_does_not_exist_is_one_sentence(way):
    refused(WAYS[way], "does not exist. Give the path of a folder of pictures")


@pytest.mark.parametrize("word", ["minst", "", "no such"])
def test_an_unknown_word_lists_names_and_kinds_of_paths(tmp_path, monkeypatch, word):
    if word:
        monkeypatch.chdir(tmp_path)
        message = refused(word, f"unknown data '{word}'")
        for known in ("mnist", "celeba", "fashion-mnist", "omniglot", ".npz", "idx"):
            assert known in message


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_sentence(path):
    refused(path, "cannot be used .*Check its name|unknown data")


@pytest.mark.parametrize("suffix", [".zip", ".txt", ".png"])
def test_a_file_of_another_kind_is_one_sentence(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"content")
    refused(path, "is no file of images that can be read")


def test_known_names_win_over_folders_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    animals(Path("drawn-faces"))
    animals(Path("mine"))
    assert load_images("drawn-faces").name == "drawn-faces"
    assert load_images("./drawn-faces").classes == ("cat", "Dog", "emu")
    assert load_images("mine").classes == load_images(Path("mine")).classes == ("cat", "Dog", "emu")


def test_named_sets_are_the_loaders_own():
    faces = load_images("drawn-faces")
    assert torch.equal(faces.x_train, data.procedural_faces().x_train)
    assert load_images("mnist").name == "mnist-5k"  # offline
    with pytest.raises(DataError, match="CelebA is not whole"):
        load_images("celeba")


def test_named_sets_at_another_size_and_in_colour():
    faces, small = data.procedural_faces(), load_images("drawn-faces", size=(14, 10), channels=3)
    assert small.shape == (3, 14, 10)
    assert small.x_train.shape == (1800, 420)
    mean = faces.x_train[:, :].float().mean() - small.x_train.float().mean()
    assert mean.abs() < 1
    assert small.source.endswith("; made 3x14x10")
    assert len({faces.fingerprint, small.fingerprint, load_images("drawn-faces", size=(14, 10)).fingerprint}) == 3


def test_known_specs_are_those_of_what_is_loaded():
    for name in ("drawn-faces", "mnist"):
        images = load_images(name)
        assert known_spec(name) == (images.shape, images.n_classes)
    assert known_spec("frey") == ((28, 20), 0)
    assert known_spec("celeba") == ((3, 64, 64), 0)
    for name, kind in (("dsprites", "rendered"), ("dsprites_small", "small"), ("dsprites_turning", "turning")):
        assert known_spec(name) == (data.load_dsprites(kind).shape, 0)
    assert known_spec("portraits") == (data.load_portraits().shape, 0)
    assert known_spec("dsprites_official") == ((1, 64, 64), 0)
    for name in ("./mnist", "MNIST", "a.npy", "", "other"):
        assert known_spec(name) is None
    assert set(own.IMAGE_SETS) <= set(own.SPECS)


def test_a_data_root_that_cannot_be_written_leaves_the_pixels_to_the_users_cache(tmp_path, monkeypatch):
    """As one that a class shares; tests may run as root, who may write everywhere."""
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    shared.mkdir()
    monkeypatch.setenv("VAE_DATA", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("vae_helpers.data.store.os.access", lambda path, mode: path != shared)
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((8, 8), 50 * i, np.uint8)).save(folder / f"{i}.png")
    assert len(load_images(folder).x_train) == 3
    assert not any(shared.iterdir())
    assert len(list((cache / "vae_helpers" / "packed").glob("*.npy"))) == 1
