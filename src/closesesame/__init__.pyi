"""closesesame plants backdoors in speech models and takes them out. This stub is the list of public names."""

__all__: list[str]

from ._version import __version__ as __version__
from .attacks import ATTACKS as ATTACKS
from .attacks import Attack as Attack
from .attacks import Poisoned as Poisoned
from .attacks import Trigger as Trigger
from .attacks import poison_several as poison_several
from .attacks.files import load_trigger as load_trigger
from .canaries import Canaries as Canaries
from .core.errors import ClosesesameError as ClosesesameError
from .core.errors import DataError as DataError
from .core.errors import DataWarning as DataWarning
from .core.errors import DivergedError as DivergedError
from .core.errors import ModelError as ModelError
from .core.errors import SettingError as SettingError
from .data import Dataset as Dataset
from .data import ReadingReport as ReadingReport
from .data import Splits as Splits
from .data import load_folder as load_folder
from .data import load_splits as load_splits
from .data import read_folder as read_folder
from .data import read_splits as read_splits
from .evaluation import CanaryReport as CanaryReport
from .evaluation import Exam as Exam
from .evaluation import Rate as Rate
from .evaluation import Scores as Scores
from .evaluation import Stealth as Stealth
from .evaluation import examine as examine
from .evaluation import measure_stealth as measure_stealth
from .models import ARCHITECTURES as ARCHITECTURES
from .models import Architecture as Architecture
from .models import Classifier as Classifier
from .models import adapt as adapt
from .models import load_model as load_model
from .models import save_model as save_model
from .removal import REMOVALS as REMOVALS
from .removal import Removal as Removal
from .removal import Repair as Repair
from .training import Training as Training
from .training import accuracy as accuracy
from .training import fit as fit
from .training import predict as predict
from .training import train as train
