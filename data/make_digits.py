"""Write digits.h5 beside this file from scikit-learn's copy of the UCI digits: how the embedded data came about.

scikit-learn is needed here alone: `pip install scikit-learn h5py`, then `python data/make_digits.py`. Written again by
the same versions of h5py and zlib, the file is the same byte for byte.
"""

import pathlib

import h5py
import numpy as np
from sklearn.datasets import load_digits

ATTRIBUTES = {
    "source": "https://archive.ics.uci.edu/dataset/80 (test part, as in scikit-learn's load_digits)",
    "licence": "CC BY 4.0",
    "citation": "Alpaydin, E. & Kaynak, C., Optical Recognition of Handwritten Digits, UCI Machine Learning "
    "Repository, 1998, https://doi.org/10.24432/C50P49",
}


def main() -> None:
    """Write the file."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)  # (1797, 8, 8), 0 .. 16
    if not np.array_equal(images, digits.images) or images.max() != 16:
        raise SystemExit("the pixels are not whole numbers from 0 to 16: another version of the data?")
    with h5py.File(pathlib.Path(__file__).with_name("digits.h5"), "w") as file:
        for name, array in (("images", images.reshape(len(images), 64)), ("labels", digits.target.astype(np.uint8))):
            file.create_dataset(
                name,
                data=array,
                chunks=array.shape,
                compression="gzip",
                compression_opts=9,
                shuffle=False,
                track_times=False,
            )
        for name, text in ATTRIBUTES.items():
            file.attrs[name] = np.bytes_(text)


if __name__ == "__main__":
    main()
