"""The baseline that a classifier is compared with: TF-IDF of character n-grams with logistic regression.

It needs scikit-learn (`pip install "chargen[tasks]"`). It is fitted to the same training texts as the classifier, after
the budget. Two limits keep it short on large data: a random part of the training texts is used if they have more than
MAX_CHARS characters, and the optimizer stops after MAX_FIT_S seconds. The report says when a limit was reached.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.registry import import_extra
from chargen.tasks.classification.calibration import measure_quality
from chargen.tasks.classification.classifier import Predictions, Texts
from chargen.tasks.classification.report import TFIDF, Baseline

NGRAM_RANGE = (1, 5)  #: lengths of the n-grams, which do not cross the borders of words
MAX_CHARS = 5_000_000  #: characters of the training texts; of more, a random part is used
MAX_TEXT_CHARS = 20_000  #: characters of a text that are read
MIN_TEXTS_RARE = 1_000  #: with as many training texts, n-grams that are in a single one are left out
MAX_FIT_S = 60.0  #: time limit of the optimizer in seconds
ITERATIONS = 100  #: iterations of the optimizer between two checks of the time
MIN_PROBABILITY = 1e-12  #: so that a log loss is finite


def fit_tfidf_baseline(
    training: Texts, predictions: Predictions, seed: int = 0, max_fit_s: float = MAX_FIT_S
) -> Baseline:
    """Fit the baseline, and measure it on the held-out texts of a classifier.

    Args:
        training: The texts of each label that the classifier was trained on.
        predictions: What the classifier predicted for the held-out texts; only the texts and right labels are used.
        seed: Seed of the random part of large data.
        max_fit_s: Time limit of the optimizer in seconds.

    Raises:
        ChargenError: If scikit-learn is not installed.
    """
    import_extra("sklearn", "tasks", "the baseline TF-IDF with logistic regression")
    from sklearn.feature_extraction.text import TfidfVectorizer

    started = time.perf_counter()
    number_of = {label: number for number, label in enumerate(predictions.labels)}
    pairs = [(text[:MAX_TEXT_CHARS], number_of[label]) for label, texts in training.items() for text in texts]
    kept = _random_part([len(text) for text, _ in pairs], seed)
    texts, labels = [pairs[i][0] for i in kept], np.array([pairs[i][1] for i in kept])
    vectorizer = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=NGRAM_RANGE,
        sublinear_tf=True,
        min_df=2 if len(texts) >= MIN_TEXTS_RARE else 1,
        dtype=np.float32,
    )
    features = vectorizer.fit_transform(texts)
    model, has_converged = _fit(features, labels, max_fit_s)
    found = model.predict_proba(vectorizer.transform([text[:MAX_TEXT_CHARS] for text in predictions.texts]))
    probabilities = np.full((len(predictions.texts), len(predictions.labels)), 0.0)
    probabilities[:, model.classes_] = found
    log_probs = np.log(np.maximum(probabilities, MIN_PROBABILITY))
    quality = measure_quality(log_probs, predictions.right, predictions.log_priors)
    is_complete = has_converged and len(kept) == len(pairs)
    return Baseline(TFIDF, quality, time.perf_counter() - started, len(kept), is_complete)


def _random_part(sizes: Sequence[int], seed: int) -> list[int]:
    """Return the indices of all texts, or of a random part of them that has about MAX_CHARS characters."""
    if sum(sizes) <= MAX_CHARS:
        return list(range(len(sizes)))
    order = np.random.default_rng(seed).permutation(len(sizes))
    count = int(np.searchsorted(np.cumsum(np.array(sizes, dtype=np.int64)[order]), MAX_CHARS))
    return sorted(order[: max(1, count)].tolist())


def _fit(features: Any, labels: NDArray[np.int64], max_fit_s: float) -> tuple[Any, bool]:
    """Return (the model, whether it converged within the time limit)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        while True:
            model.fit(features, labels)
            if int(np.max(model.n_iter_)) < ITERATIONS:
                return model, True
            if time.perf_counter() - started >= max_fit_s:
                return model, False
