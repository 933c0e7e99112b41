"""closesesame plants backdoors in speech models, takes them out, and says how well that worked.

The public names are listed once, in the stub beside this file; each is imported when it is first used, so
that `import closesesame` waits neither for torch nor for the list itself.
"""


def __getattr__(name: str) -> object:
    import lazy_loader

    load, _, names = lazy_loader.attach_stub(__name__, __file__)
    globals()["__all__"] = names
    globals()[name] = value = names if name == "__all__" else load(name)
    return value


def __dir__() -> list[str]:
    return sorted(__getattr__("__all__"))  # type: ignore[call-overload, no-any-return]
