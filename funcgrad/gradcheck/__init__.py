from funcgrad.gradcheck.comparison import check_call, check_program, compare, fuzz, load_function

__all__ = ["check_call", "check_program", "compare", "fuzz", "load_function"]
