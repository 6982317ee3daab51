from funcgrad.explain.explanation import as_data, explain, sections, show, write_svg

__all__ = ["as_data", "explain", "sections", "show", "write_svg"]
