"""Checks of labels for wrong units, signs, duplicates and outliers."""

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mlip.data.doctor import check, has_errors, table


def data_check(cfg: DictConfig) -> int:
    """Look for wrong labels in files: signs, units, missing, duplicates, outliers; exit code 1 where errors are found."""
    plain = OmegaConf.to_container(cfg.data, resolve=True)
    names = ["files", "validation_files", "test_files", "split", "remove_net_force"]
    findings = check(**{name: plain[name] for name in names})
    Console().print(table(findings))
    return int(has_errors(findings))
