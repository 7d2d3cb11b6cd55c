// Loads the TorchScript file of a bundle and prints the ten best items of a user: serve FILE USER_ID [ITEM_ID ...]
// The item ids are the history, oldest first; the user and items go by their raw ids, numbers as text too.
//
//   T=$(python -c 'import torch, os; print(os.path.dirname(torch.__file__))')
//   g++ -std=c++20 -O2 serve.cpp -o serve -I$T/include -I$T/include/torch/csrc/api/include \
//       -L$T/lib -Wl,-rpath,$T/lib -ltorch -ltorch_cpu -lc10
//   ./serve bundle/retrieval.pt 196 242 257 111
#include <torch/script.h>

#include <cstdio>
#include <string>

// A record of raw fields: Dict[str, Any].
c10::impl::GenericDict record() {
  return c10::impl::GenericDict(c10::StringType::get(), c10::AnyType::get());
}

// Raw ids: List[Any].
c10::impl::GenericList ids() { return c10::impl::GenericList(c10::AnyType::get()); }

std::string text(const c10::IValue& value) {
  return value.isInt() ? std::to_string(value.toInt()) : value.toStringRef();
}

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "expected: serve FILE USER_ID [ITEM_ID ...]\n");
    return 2;
  }
  try {
    c10::InferenceMode no_gradients;
    torch::jit::Module bundle = torch::jit::load(argv[1]);
    auto user = record();
    user.insert("user_id", std::string(argv[2]));
    auto history = ids();
    for (int place = 3; place < argc; ++place) {
      history.push_back(c10::IValue(std::string(argv[place])));
    }
    // Further arguments by name, here that of a context: Dict[str, Any], as {"timestamp": 881251577}.
    std::unordered_map<std::string, c10::IValue> more{{"context", record()}};
    auto answer = bundle.get_method("recommend")({user, history, 10}, more).toTuple();
    // Item ids and their scores, best first; with two stages their probabilities.
    auto items = answer->elements()[0].toList();
    auto scores = answer->elements()[1].toDoubleVector();
    for (size_t place = 0; place < items.size(); ++place) {
      std::printf("%s %.6f\n", text(items.get(place)).c_str(), scores[place]);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
