"""closesesame finds backdoors in speech models and shuts them.

The public names are listed once, in the stub beside this file; each is imported when it is first used, so
that `import closesesame` does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
