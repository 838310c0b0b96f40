"""Vectors along the edges of a graph."""

from torch import Tensor

from mlip import keys
from mlip.nn.scatter import gather_rows


def edge_vectors(graph: dict[str, Tensor]) -> Tensor:
    """r_neighbour + shift @ cell - r_centre of every edge, [n_edges, 3] Å."""
    edge_index, positions, cell = graph[keys.EDGE_INDEX], graph[keys.POSITIONS], graph[keys.CELL]
    shift = graph[keys.EDGE_SHIFT].to(positions.dtype)
    difference = gather_rows(positions, edge_index[1]) - gather_rows(positions, edge_index[0])
    if cell.shape[0] == 1:
        return difference + shift @ cell[0]
    edge_cell = gather_rows(cell.reshape(-1, 9), graph[keys.BATCH][edge_index[0]]).reshape(-1, 3, 3)
    return difference + (shift.unsqueeze(1) @ edge_cell).squeeze(1)
