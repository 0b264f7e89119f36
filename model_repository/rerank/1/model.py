from tridex.serving.rerank import RerankService
from tridex.serving.triton import python_model

TritonPythonModel = python_model(RerankService)
