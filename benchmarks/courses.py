"""Which base steps are worth an evaluation, for each number of evaluations: the courses of `sampling/bounded.py`.

    python -m benchmarks.courses PHOTOS... [--evaluations 5 6 7] [--tries 28] [--tile-px 256] [--scale 4]
        [--every 1 --from 0] [--model FILE] [--seed 0] [--course 0,6,12,23 ...]

One tile of each photograph is sampled by all base steps and by courses, the same one for all tiles. The search begins
with the course in force, with the best one of an evaluation more without one of its places, and with that of one fewer
and the middle of a long jump; then moves one place by a base step for as long as that comes nearer, at most so many
times. What is wanted is likeness to all steps, dB: the mean of that of the mean tile and of the tenth from the bottom.
A search among few tiles finds what suits these: `--course` compares courses with each other, on many.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.models.model import load_model
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling import bounded
from adadiffsr_core.settings import PRESETS

from .likeness import Blind, list_photos, tiles

Course = tuple[int, ...]


def shifted(course: Course) -> Iterator[Course]:
    """Courses with one place between the ends moved by one base step."""
    for place in range(1, len(course) - 1):
        for by in (-1, 1):
            moved = (*course[:place], course[place] + by, *course[place + 1 :])
            if all(before < after for before, after in pairwise(moved)):
                yield moved


def without_one(course: Course) -> Iterator[Course]:
    """Courses without one of the places between the ends."""
    return (course[:place] + course[place + 1 :] for place in range(1, len(course) - 1))


def with_one(course: Course) -> Iterator[Course]:
    """Courses with the middle of one of the three longest jumps."""
    longest = sorted(pairwise(course), key=lambda jump: jump[0] - jump[1])[:3]
    return (tuple(sorted((*course, (a + b) // 2))) for a, b in longest if b - a > 1)


class Judge:
    """Likeness of courses, each measured once.

    Args:
        args: of the command line.
    """

    @torch.inference_mode()
    def __init__(self, args: argparse.Namespace) -> None:
        model = load_model(args.model)
        self.model = model if model.mmle is None else replace(model, estimator=Blind(model.mmle))
        self.config = replace(PRESETS["everyday"], tile_size=args.tile_px, tile_fit=False, overlap=0, seed=args.seed)
        found = tiles(list_photos(args), args.tile_px, args.scale, args.seed)
        self.lq_latent = model.encode(torch.cat([tile for _, tile in found]))
        self.truth = self._restore(self.config.every_step().dtss.likeness, 0.0)
        self.known: dict[Course, tuple[float, float, float]] = {}

    def _restore(self, likeness: float, budget: float) -> torch.Tensor:
        dtss = replace(self.config.dtss, rule="bounded", likeness=likeness, budget=budget)
        sampled = sample_latent(self.model, self.lq_latent, replace(self.config, dtss=dtss))
        return self.model.decode(sampled.latent).clamp(0, 1)

    @torch.inference_mode()
    def __call__(self, course: Course) -> tuple[float, float, float]:
        """What is wanted, and the likeness of the mean tile and of the tenth from the bottom, dB."""
        if course not in self.known:
            with patch.object(bounded, "BASE_COURSES", ((0.0, course),)):
                bounded.courses.cache_clear()
                picture = self._restore(0.0, float(len(course)))
            bounded.courses.cache_clear()
            likeness = -10 * (picture - self.truth).square().mean(dim=(1, 2, 3)).log10().numpy()
            mean, low = float(likeness.mean()), float(np.quantile(likeness, 0.1))
            self.known[course] = ((mean + low) / 2, mean, low)
        return self.known[course]


def search(judge: Judge, counts: list[int], tries: int) -> Iterator[tuple[Course, float, float]]:
    """The best course of each number of evaluations, with the likeness of the mean tile and of the low one, dB."""
    best = {len(course): course for _, course in bounded.BASE_COURSES}
    for count in counts:
        begin = [best[count]] if count in best else []
        begin += without_one(best[count + 1]) if count + 1 in best else []
        begin += with_one(best[count - 1]) if count - 1 in best else []
        course, left, is_better = max(begin, key=judge), tries, True
        while is_better:
            is_better = False
            for other in shifted(course):
                if other not in judge.known and left > 0:
                    left -= 1
                    if judge(other) > judge(course):
                        course, is_better = other, True
                        break
        best[count] = course
        yield course, *judge(course)[1:]


def read_course(text: str) -> Course:
    """`0,6,12,23` to base steps.

    Raises:
        argparse.ArgumentTypeError: they do not lead from the first base step to the last.
    """
    last = bounded.BASE_STEPS - 1
    try:
        course = tuple(int(place) for place in text.split(","))
    except ValueError:
        course = ()
    if course[:1] != (0,) or course[-1:] != (last,) or any(before >= after for before, after in pairwise(course)):
        raise argparse.ArgumentTypeError(f"{text!r} is no course: base steps that rise from 0 to {last}, with commas")
    return course


def check_counts(counts: list[int]) -> None:
    """Refuse numbers of evaluations that no course is near, known or searched for before, from which to begin.

    Raises:
        ConfigError: one is such.
    """
    known = {len(course) for _, course in bounded.BASE_COURSES}
    for count in counts:
        if count < min(known) or not known & {count - 1, count, count + 1}:
            told = ", ".join(map(str, sorted(known)))
            raise ConfigError(f"there is no course to begin with for {count} evaluations; there are of {told}")
        known.add(count)


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTOS", help="files or folders")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[7, 8, 6, 9, 5, 10, 4, 11, 3])
    parser.add_argument("--tries", type=int, default=28)
    parser.add_argument("--course", nargs="+", type=read_course, default=[], help="only measure these")
    parser.add_argument("--tile-px", type=int, default=256)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th photograph")
    parser.add_argument("--from", dest="first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        check_counts([] if args.course else args.evaluations)
        judge = Judge(args)
    except AdaDiffSRError as error:
        parser.error(str(error))
    given = ((course, *judge(course)[1:]) for course in args.course)
    for course, mean, low in given if args.course else search(judge, args.evaluations, args.tries):
        print(f"{len(course)} evaluations at {course}: {mean:.1f} dB, the lowest tenth {low:.1f}", flush=True)


if __name__ == "__main__":
    main()
