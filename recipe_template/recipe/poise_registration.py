"""Register `algorithm.py` with verl, as advantage estimator and policy loss `poise`.

verl imports this in the trainer and in every worker (`actor_rollout_ref.model.external_lib=poise_registration`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from verl.trainer.ppo.core_algos import register_adv_est, register_policy_loss

NAME = "poise"
# The folder is loaded as a package under this name: a wheel that verl needs installs a top-level `recipe`.
PACKAGE = "poise_recipe"


def load_algorithm() -> ModuleType:
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{PACKAGE}.algorithm")


algorithm = load_algorithm()
register_adv_est(NAME)(algorithm.compute_advantages)
register_policy_loss(NAME)(algorithm.policy_loss)
