// blobs STORE CAPACITY COUNT write|read WRITER: as blobs.c, in C++.

#include "check.h"
#include "content.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::size_t depth = 16;

struct Slot {
    std::vector<unsigned char> buffer = std::vector<unsigned char>(VALUE_LEN_MAX);
    std::uint64_t number = 0;
};

std::string key_of(std::uint64_t number, const std::string &writer) {
    char key[64];
    return std::string(key, make_key(number, writer.c_str(), key));
}

std::vector<unsigned char> value_of(std::uint64_t number, const std::string &writer) {
    std::vector<unsigned char> value(value_len(number));
    fill_value(number, writer.c_str(), value.data(), value.size());
    return value;
}

class Program {
  public:
    Program(isotherm_store_t store, std::string writer, bool writing)
        : writer_(std::move(writer)), writing_(writing), slots_(depth) {
        OK(isotherm_bucket_ensure(store, "blobs", &bucket_));
        OK(isotherm_queue_create(store, depth, &queue_));
        for (std::size_t at = 0; at < depth; at++) {
            free_.push_back(at);
        }
    }

    ~Program() {
        OK(isotherm_queue_close(queue_));
        OK(isotherm_bucket_close(bucket_));
    }

    Program(const Program &) = delete;
    Program &operator=(const Program &) = delete;

    void run(std::uint64_t count) {
        for (std::uint64_t number = 0; number < count; number += 2) {
            writing_ ? put_now(number) : get_now(number);
        }
        for (std::uint64_t number = 1; number < count; number += 2) {
            submit(number);
        }
        while (free_.size() < depth) {
            take();
        }
    }

  private:
    void put_now(std::uint64_t number) {
        const std::string key = key_of(number, writer_);
        const std::vector<unsigned char> value = value_of(number, writer_);
        OK(isotherm_put(bucket_, key.data(), key.size(), value.data(), value.size(), nullptr,
                        nullptr));
    }

    void get_now(std::uint64_t number) {
        const std::string key = key_of(number, writer_);
        void *value = nullptr;
        std::uint64_t len = 0;
        OK(isotherm_get(bucket_, key.data(), key.size(), &value, &len));
        const std::unique_ptr<void, decltype(&isotherm_free)> owner(value, isotherm_free);
        check(number, static_cast<unsigned char *>(value), len);
    }

    void check(std::uint64_t number, const unsigned char *value, std::size_t len) {
        const std::vector<unsigned char> expected = value_of(number, writer_);
        CHECK(len == expected.size());
        CHECK(len == 0 || std::memcmp(value, expected.data(), len) == 0);
    }

    void submit(std::uint64_t number) {
        while (free_.empty()) {
            take();
        }
        const std::size_t at = free_.back();
        Slot &slot = slots_[at];
        const std::string key = key_of(number, writer_);
        isotherm_operation_t operation = {};
        operation.action = writing_ ? ISOTHERM_ACTION_PUT : ISOTHERM_ACTION_GET;
        operation.bucket = bucket_;
        operation.key = key.data();
        operation.key_len = key.size();
        operation.buffer = slot.buffer.data();
        operation.len = writing_ ? value_len(number) : slot.buffer.size();
        operation.user_data = at;
        if (writing_) {
            fill_value(number, writer_.c_str(), slot.buffer.data(), operation.len);
        }
        slot.number = number;
        free_.pop_back();
        std::size_t accepted = 0;
        OK(isotherm_queue_submit(queue_, &operation, 1, nullptr, &accepted));
        CHECK(accepted == 1);
    }

    void take() {
        isotherm_completion_t ended[depth];
        std::size_t count = 0;
        OK(isotherm_queue_wait(queue_, ended, 1, depth, ISOTHERM_WAIT_FOREVER, &count));
        CHECK(count > 0);
        for (std::size_t at = 0; at < count; at++) {
            EXPECT(ISOTHERM_OK, ended[at].status);
            Slot &slot = slots_[ended[at].user_data];
            if (!writing_) {
                check(slot.number, slot.buffer.data(), ended[at].bytes);
            }
            free_.push_back(ended[at].user_data);
        }
    }

    const std::string writer_;
    const bool writing_;
    isotherm_bucket_t bucket_ = 0;
    isotherm_queue_t queue_ = 0;
    std::vector<Slot> slots_;
    std::vector<std::size_t> free_;
};

} // namespace

int main(int argc, char **argv) {
    CHECK(argc == 6);
    const isotherm_store_t store = open_store(argv[1], argv[2]);
    {
        Program program(store, argv[5], std::string(argv[4]) == "write");
        program.run(std::stoull(argv[3]));
    }
    OK(isotherm_close(store));
    return 0;
}
