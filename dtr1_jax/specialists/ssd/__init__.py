"""SSDLite with MobileNetV2: finds objects of the 80 COCO classes, from a graph model of TensorFlow.js."""
