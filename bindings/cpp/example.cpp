// Gets a thousand blobs through a queue: all are under way at once.
//
//     c++ example.cpp $(pkg-config --cflags --libs isotherm) -o example && ./example /var/tmp/store

#include <isotherm.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

// A status as an exception, with the thread's message.
void check(isotherm_status_t status) {
    if (status != ISOTHERM_OK) {
        throw std::runtime_error(isotherm_last_error());
    }
}

// A store that closes with its scope; buckets and queues of it close along.
class Store {
  public:
    Store(const char *path, const isotherm_open_options_t &options) {
        check(isotherm_open(path, &options, &handle));
    }
    ~Store() { isotherm_close(handle); }
    Store(const Store &) = delete;
    Store &operator=(const Store &) = delete;

    isotherm_store_t handle = 0;
};

void run(const char *path) {
    const isotherm_setting_t settings[] = {
        {"tier.0.kind", "dram"}, {"tier.0.capacity", "64MiB"},
        {"tier.1.kind", "nvme"}, {"tier.1.capacity", "256MiB"},
    };
    isotherm_open_options_t options = ISOTHERM_OPEN_OPTIONS_INIT;
    options.settings = settings;
    options.setting_count = sizeof settings / sizeof settings[0];
    const Store store(path, options);

    isotherm_bucket_t bucket = 0;
    isotherm_queue_t queue = 0;
    check(isotherm_bucket_ensure(store.handle, "results", &bucket));
    check(isotherm_queue_create(store.handle, 1000, &queue));

    // Keys are copied when they are submitted; buffers belong to their operations until those end.
    std::vector<std::string> keys, buffers(1000, std::string(64, '\0'));
    std::vector<isotherm_operation_t> gets(1000);
    for (std::size_t number = 0; number < gets.size(); number++) {
        keys.push_back("run-" + std::to_string(number));
        const std::string value = "value " + std::to_string(number);
        check(isotherm_put(bucket, keys[number].data(), keys[number].size(), value.data(),
                           value.size(), nullptr, nullptr));
    }
    for (std::size_t number = 0; number < gets.size(); number++) {
        gets[number].action = ISOTHERM_ACTION_GET;
        gets[number].bucket = bucket;
        gets[number].key = keys[number].data();
        gets[number].key_len = keys[number].size();
        gets[number].buffer = &buffers[number][0];
        gets[number].len = buffers[number].size();
        gets[number].user_data = number;
    }
    std::size_t accepted = 0;
    check(isotherm_queue_submit(queue, gets.data(), gets.size(), nullptr, &accepted));

    std::vector<isotherm_completion_t> ended(64);
    while (accepted > 0) {
        std::size_t count = 0;
        check(isotherm_queue_wait(queue, ended.data(), 1, ended.size(), ISOTHERM_WAIT_FOREVER, &count));
        for (std::size_t at = 0; at < count; at++) {
            const std::size_t number = ended[at].user_data;
            if (ended[at].status != ISOTHERM_OK) {
                throw std::runtime_error(keys[number] + ": " + ended[at].message);
            }
            if (number == 7) {
                std::printf("%s is \"%.*s\"\n", keys[number].c_str(),
                            static_cast<int>(ended[at].bytes), buffers[number].c_str());
            }
        }
        accepted -= count;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: example STORE\n");
        return 2;
    }
    try {
        run(argv[1]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
