"""What tests of feature injection's training share: estimators, and the frozen model as it is trained for."""

from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.tasks.denoising import ScheduledUNet
from tests.oracles import TINY_MMLE, randomise

CPU = Processor()
EVERYDAY = PRESETS["everyday"]
ESTIMATORS = {"statistics": LatentStatistics(), "mmle": MmleEstimator(randomise(Mmle(TINY_MMLE), 3))}


def scheduled(model, processor=CPU):
    return ScheduledUNet(model.unet, model.schedule, processor)
