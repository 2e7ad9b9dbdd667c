"""Choosing boxes."""

import numpy as np

from fastconv.onnx.operators.registry import operator


def _corners(boxes, center_point_box):
    """Boxes (..., 4) as (y1, x1, y2, x2) with the smaller coordinate first."""
    if center_point_box:
        centre, half = boxes[..., 1::-1], boxes[..., :1:-1] / 2
        return np.concatenate((centre - half, centre + half), -1)
    return np.concatenate((np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])), -1)


def _overlap(box, boxes):
    """Intersection over union of one box with each of `boxes` (n, 4)."""
    inside = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    union = (box[2:] - box[:2]).prod() + areas - inside
    return np.where(union > 0, inside / np.where(union > 0, union, 1), 0)


def _suppress(boxes, scores, limit, iou_threshold):
    """Indices of the boxes that stay, best first; of equal scores the first box wins."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[_overlap(boxes[best], boxes[order]) <= iou_threshold]
    return kept


@operator
def NonMaxSuppression(
    boxes,
    scores,
    max_output_boxes_per_class=None,
    iou_threshold=None,
    score_threshold=None,
    *,
    center_point_box=0,
):
    """Rows (batch, class, box) of the kept boxes, (K, 3).  `boxes` are (N, B, 4), `scores` (N, classes, B)."""
    limit = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.item())
    iou_threshold = 0.0 if iou_threshold is None else iou_threshold.item()
    boxes = _corners(boxes, center_point_box)
    selected = []
    for n, c in np.ndindex(*scores.shape[:2]):
        candidates = np.arange(scores.shape[2])
        if score_threshold is not None:
            candidates = np.flatnonzero(scores[n, c] > score_threshold.item())
        kept = _suppress(boxes[n, candidates], scores[n, c, candidates], limit, iou_threshold)
        selected += [(n, c, candidates[k]) for k in kept]
    return np.array(selected, np.int64).reshape(-1, 3)
