from tridex.serving.catalog import CatalogService
from tridex.serving.triton import python_model

TritonPythonModel = python_model(CatalogService)
