from tridex.serving.search import SearchService
from tridex.serving.triton import python_model

TritonPythonModel = python_model(SearchService)
