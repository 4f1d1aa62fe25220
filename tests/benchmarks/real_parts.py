"""A class's test set in memory, for benchmarks that judge it many times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrate.data.dataset import ClassFolder, input_truth, read_all, read_truth
from calibrate.data.training_set import Pictures
from calibrate.training.fit import pictures_for
from calibrate.training.options import Options


def read_tests(folder: ClassFolder, options: Options) -> tuple[Pictures, NDArray[np.bool_], list[bool]]:
    """Return the test pictures, where their defects are at the network's size [N, H, W], and which are defective."""
    tests, truths = pictures_for(options), []
    by_path = {test.path: test for test in folder.test}
    for path, picture in read_all(list(by_path), 2):
        if isinstance(picture, str):
            raise SystemExit(picture)
        tests.add(picture, path.name)
        truths.append(input_truth(read_truth(by_path[path], picture), options.geometry()))
    return tests, np.stack(truths), [test.is_defective for test in folder.test]
