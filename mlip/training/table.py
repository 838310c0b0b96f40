"""The final table: errors in total, by element, by config_type."""

from rich.table import Table

from mlip.training.metrics import UNITS


def error_table(errors: dict[str, dict], title: str) -> Table:
    """Rows: everything, each element, each config_type; columns: MAE and RMSE of each quantity with its unit."""
    names = [name for name in UNITS if f"{name}_rmse_{UNITS[name][0]}" in errors["total"]]
    table = Table(title=title)
    table.add_column("")
    for name in names:
        for kind in ("MAE", "RMSE"):
            table.add_column(
                f"{name.replace('_', ' ')} {kind}\n{UNITS[name][0].replace('_per_', '/')}", justify="right"
            )
    groups = [("all", errors["total"]), *errors["by_element"].items()]
    if len(errors["by_config_type"]) > 1:
        groups += errors["by_config_type"].items()
    for label, group in groups:
        cells = [group.get(f"{name}_{kind}_{UNITS[name][0]}") for name in names for kind in ("mae", "rmse")]
        table.add_row(label, *["" if cell is None else f"{cell:.4g}" for cell in cells], end_section=label == "all")
    return table
