"""Architectures built from ``fastconv.nn``, with torchvision's constructors, module names and state-dict keys.

``fastconv.models.lenet5(weights="mnist")`` is trained and shipped; the others start at random, or take the path of a
weight file.  Each family is imported when it is first used.
"""

from importlib import import_module

# Module → what it offers.  A module called like a constructor would hide it once imported.
_NAMES = {
    "alex_net": ("alexnet",),
    "convnext": ("convnext_tiny",),
    "densenet": ("densenet121", "densenet161", "densenet169", "densenet201"),
    "efficientnet": ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2"),
    "inception": ("googlenet", "inception_v3"),
    "lenet": ("lenet5", "mnist_samples"),
    "mnasnet": ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    "mobilenet": ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
    "pattern": ("from_pattern",),
    "regnet": ("regnet_y_400mf",),
    "resnet": (
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "resnext101_32x8d",
        "wide_resnet50_2",
        "wide_resnet101_2",
    ),
    "segmentation": ("deeplabv3_resnet50", "fcn_resnet50"),
    "shufflenet": ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    "squeezenet": ("squeezenet1_0", "squeezenet1_1"),
    "ssdlite": ("ssdlite320_mobilenet_v3_large",),
    "u_net": ("unet",),
    "vgg": ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name in _MODULE_OF:
        return getattr(import_module(f"fastconv.models.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'fastconv.models' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__
