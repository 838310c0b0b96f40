"""Static properties: one file each, `evaluate(calculator, ...) -> Section` and `draw(data) -> figures`."""
