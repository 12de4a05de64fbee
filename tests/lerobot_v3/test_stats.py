"""What is counted of pictures by value is what counting every pixel by itself gives."""

import numpy as np
import pytest

from lerobot_v3.stats import of_pictures, of_rows


@pytest.mark.parametrize(("pictures", "side", "brightest"), [(1, 1, 255), (1, 2, 3), (2, 31, 60), (7, 40, 256)])
def test_pictures_count_as_their_pixels_do(pictures: int, side: int, brightest: int) -> None:
    random = np.random.default_rng(side)
    drawn = [random.integers(0, brightest, (side, side + 1, 3), dtype=np.uint8) for _ in range(pictures)]
    found = of_pictures(iter(drawn))
    each = of_rows(np.concatenate([picture.reshape(-1, 3) for picture in drawn]))
    assert found.pop("count") == [pictures]
    assert set(found) == set(each) - {"count"}
    for name, value in found.items():
        assert value.shape == (3, 1, 1)
        np.testing.assert_allclose(value.ravel() * 255.0, each[name], rtol=0, atol=1e-9, err_msg=name)


def test_of_a_large_picture_every_second_pixel_is_counted() -> None:
    picture = np.zeros((300, 400, 3), dtype=np.uint8)
    picture[1::2] = 255  # rows that are passed over
    assert of_pictures([picture])["max"].max() == 0.0
