"""Every type of a request, a reply and a stream, under one roof."""

from typing import TYPE_CHECKING

from . import call_info, content, events, message, models, parsed, requests, seams, turns, usage
from .call_info import *  # noqa: F403
from .content import *  # noqa: F403
from .events import *  # noqa: F403
from .message import *  # noqa: F403
from .models import *  # noqa: F403
from .parsed import *  # noqa: F403
from .requests import *  # noqa: F403
from .seams import *  # noqa: F403
from .turns import *  # noqa: F403
from .usage import *  # noqa: F403

__all__: list[str] = []
__all__ += call_info.__all__
__all__ += content.__all__
__all__ += events.__all__
__all__ += message.__all__
__all__ += models.__all__
__all__ += parsed.__all__
__all__ += requests.__all__
__all__ += seams.__all__
__all__ += turns.__all__
__all__ += usage.__all__


if not TYPE_CHECKING:  # to a type checker it would say that every name is there

    def __getattr__(name: str) -> object:
        from .._hints import no_name

        raise no_name(__name__, name, __all__)
