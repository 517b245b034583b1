"""The elements that every SVG drawing here is made of: rectangles and text, styled by class.

May import the standard library only.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

__all__ = ["rect", "text"]


def rect(
    parent: ET.Element, x: float, y: float, width: float, height: float, name: str, *,
    radius: float = 0, fill: str = "",
) -> None:  # fmt: skip
    """A rectangle of class `name`, in pixels; `fill` is a paint where the class has none."""
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    attributes |= {"class": name} if name else {}
    attributes |= {"rx": f"{radius:g}"} if radius else {}
    attributes |= {"fill": fill} if fill else {}
    ET.SubElement(parent, "rect", attributes)


def text(parent: ET.Element, x: float, y: float, words: str, name: str = "", *, anchor: str = "") -> None:
    """Text whose baseline begins, or is anchored, there; it is escaped when the document is written."""
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    attributes |= {"class": name} if name else {}
    attributes |= {"text-anchor": anchor} if anchor else {}
    ET.SubElement(parent, "text", attributes).text = words
