"""SSDlite: detection of objects with a MobileNet v3 on images of 320 × 320.

Sources: W. Liu et al., "SSD: single shot multibox detector", arXiv:1512.02325, 2015; M. Sandler et al., "MobileNetV2:
inverted residuals and linear bottlenecks", arXiv:1801.04381, 2018, section 6.2; A. Howard et al., "Searching for
MobileNetV3", arXiv:1905.02244, 2019, section 6.3.
"""

from functools import partial
from math import log, sqrt

import numpy as np

from fastconv import nn
from fastconv.arrays import as_array, describe
from fastconv.errors import ArgumentError
from fastconv.models.blocks import Conv2dNormActivation, build
from fastconv.models.mobilenet import mobilenet_v3_large
from fastconv.nn import functional as F

__all__ = ["SSDLite", "ssdlite320_mobilenet_v3_large"]

SIZE = 320
ASPECT_RATIOS = (2, 3)
SMALLEST_SCALE, LARGEST_SCALE = 0.2, 0.95
EXTRA_CHANNELS = (512, 256, 256, 128)
C4 = 13  # the backbone's last block with stride; its expanded channels are the first feature map
CODE_SCALES = np.array([10, 10, 5, 5], np.float32)  # of the regression's (x, y, width, height)
LARGEST_GROWTH = log(1000 / 16)

_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
_conv = partial(Conv2dNormActivation, norm_layer=_norm, activation_layer=nn.ReLU6)


class _FeatureExtractor(nn.Module):
    """Images (n, 3, 320, 320) → six maps, from (n, 672, 20, 20) to (n, 128, 1, 1)."""

    def __init__(self):
        super().__init__()
        layers = list(mobilenet_v3_large(reduced_tail=True, norm_layer=_norm).features)
        c4, last = layers[C4].block, layers[-1]
        self.features = nn.Sequential(nn.Sequential(*layers[:C4], c4[0]), nn.Sequential(c4[1:], *layers[C4 + 1 :]))
        self.out_channels = [c4[0].out_channels, last.out_channels, *EXTRA_CHANNELS]
        self.extra = nn.ModuleList(map(_extra_block, self.out_channels[1:], EXTRA_CHANNELS))

    def forward(self, x):
        maps = []
        for block in (*self.features, *self.extra):
            x = block(x)
            maps.append(x)
        return maps


def _extra_block(in_channels, out_channels):
    hidden = out_channels // 2
    return nn.Sequential(
        _conv(in_channels, hidden, 1), _conv(hidden, hidden, stride=2, groups=hidden), _conv(hidden, out_channels, 1)
    )


class _ScoringHead(nn.Module):
    """Feature maps → (n, boxes, columns): per map and pixel a row for each box shape."""

    def __init__(self, in_channels, columns):
        super().__init__()
        shapes = 2 + 2 * len(ASPECT_RATIOS)
        self.columns = columns
        self.module_list = nn.ModuleList(
            nn.Sequential(_conv(channels, channels, groups=channels), nn.Conv2d(channels, columns * shapes, 1))
            for channels in in_channels
        )

    def forward(self, maps):
        scored = (module(x).transpose(0, 2, 3, 1) for module, x in zip(self.module_list, maps, strict=True))
        return np.concatenate([y.reshape(len(y), -1, self.columns) for y in scored], axis=1)


class _Head(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.classification_head = _ScoringHead(in_channels, num_classes)
        self.regression_head = _ScoringHead(in_channels, 4)

    def forward(self, maps):
        return self.classification_head(maps), self.regression_head(maps)


class SSDLite(nn.Module):
    """See :func:`ssdlite320_mobilenet_v3_large`."""

    def __init__(
        self, num_classes=91, score_thresh=0.001, nms_thresh=0.55, detections_per_img=300, topk_candidates=300
    ):
        super().__init__()
        self.backbone = _FeatureExtractor()
        self.head = _Head(self.backbone.out_channels, num_classes)
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.topk_candidates = topk_candidates

    def forward(self, images):
        if self.training:
            raise ArgumentError("training mode: losses are not computed; call eval() before detecting")
        images = [
            image if isinstance(image, np.ndarray) else as_array(image, f"images[{i}]")
            for i, image in enumerate(images)
        ]
        for i, image in enumerate(images):
            if image.ndim != 3 or image.dtype.kind != "f":
                raise ArgumentError(f"images[{i}]: expected floats (3, height, width), got {describe(image)}")
        if not images:
            return []
        maps = self.backbone(np.concatenate([_fitted(image) for image in images]))
        logits, codes = self.head(maps)
        boxes = _decoded(codes, _default_boxes([x.shape[-2:] for x in maps]))
        scores = F.softmax(logits, dim=-1)
        return [self._detections(*row) for row in zip(boxes, scores, images, strict=True)]

    def _detections(self, boxes, scores, image):
        kept = [np.empty((0, 6))]
        for label in range(1, scores.shape[1]):
            candidates = np.argsort(-scores[:, label], kind="stable")[: self.topk_candidates]
            candidates = candidates[scores[candidates, label] > self.score_thresh]
            candidates = candidates[_unsuppressed(boxes[candidates], self.nms_thresh)]
            labels = np.full(len(candidates), label)
            kept.append(np.column_stack((boxes[candidates], scores[candidates, label], labels)))
        rows = np.concatenate(kept)
        rows = rows[np.argsort(-rows[:, 4], kind="stable")[: self.detections_per_img]]
        height, width = image.shape[-2:]
        scale = np.array([width, height, width, height]) / SIZE
        return {
            "boxes": (rows[:, :4] * scale).astype(scores.dtype),
            "scores": rows[:, 4].astype(scores.dtype),
            "labels": rows[:, 5].astype(np.int64),
        }


def _fitted(image):
    """An image (3, height, width) with values from 0 to 1 as (1, 3, 320, 320) from -1 to 1."""
    x = (image[None] - image.dtype.type(0.5)) / image.dtype.type(0.5)
    return F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def _default_boxes(grids):
    """(boxes, 4): centre x, centre y, width and height in pixels, for maps of these heights and widths."""
    scales = [*np.linspace(SMALLEST_SCALE, LARGEST_SCALE, len(grids)), 1.0]
    boxes = []
    for (height, width), scale, next_scale in zip(grids, scales[:-1], scales[1:], strict=True):
        shapes = [(scale, scale), (sqrt(scale * next_scale),) * 2]
        for ratio in ASPECT_RATIOS:
            wide, narrow = scale * sqrt(ratio), scale / sqrt(ratio)
            shapes += [(wide, narrow), (narrow, wide)]
        y, x = ((np.arange(size) + 0.5) / size for size in (height, width))
        box = np.empty((height, width, len(shapes), 4), np.float32)
        box[..., 0], box[..., 1] = x[:, None], y[:, None, None]
        box[..., 2:] = np.minimum(shapes, 1)
        boxes.append(box.reshape(-1, 4))
    return np.concatenate(boxes) * SIZE


def _decoded(codes, defaults):
    """Corners (n, boxes, 4) x1, y1, x2, y2 inside the image, from the regression's `codes` and the default boxes."""
    codes = codes / CODE_SCALES
    centres = codes[..., :2] * defaults[:, 2:] + defaults[:, :2]
    halves = np.exp(np.minimum(codes[..., 2:], LARGEST_GROWTH)) * defaults[:, 2:] / 2
    return np.clip(np.concatenate((centres - halves, centres + halves), axis=-1), 0, SIZE)


def _unsuppressed(boxes, threshold):
    """Which of `boxes`, the best first, overlap no better one that stays by more than `threshold`."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    inside = np.maximum(np.minimum(high, high[:, 0]) - np.maximum(low, low[:, 0]), 0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    overlapping = inside > threshold * (areas[:, None] + areas - inside)
    stays = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if stays[i]:
            stays[i + 1 :] &= ~overlapping[i, i + 1 :]
    return stays


def ssdlite320_mobilenet_v3_large(*, weights=None, progress=True, **options):
    """SSDlite on MobileNet v3; 3,440,060 parameters.

    Input: a list of images (3, height, width), or an array of such, floats from 0 to 1; in evaluation mode only.
    Output per image a dictionary: ``boxes`` (k, 4), x1, y1, x2, y2 in pixels of the image, ``scores`` (k,) in
    descending order, and ``labels`` int64 (k,), of which 0 is the background and never reported.

    How many boxes there are depends on values, so :func:`fastconv.compile` cannot take the whole;
    ``nn.Sequential(model.backbone, model.head)`` on (n, 3, 320, 320) it can.

    Args:
        weights: None, or the path of a file for :func:`fastconv.load_state_dict`.
        progress: ignored, accepted for torchvision's sake.
        options: num_classes=91, score_thresh=0.001 (lower scores are no detections), nms_thresh=0.55 (largest
            intersection over union of two boxes of a class), detections_per_img=300, topk_candidates=300 (per class).
    """
    return build(SSDLite, weights=weights, **options)
